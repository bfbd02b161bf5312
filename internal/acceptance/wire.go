//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// wireQueue is how many packets a direction of the wire holds; what comes on top of them is lost.
const wireQueue = 4096

// wire is a long wire between two network namespaces: what goes in at one end comes out at the other o.delay later. On one
// machine the answer to a packet comes before the system call that sends it has returned, veth pairs included, so that
// nothing is ever waited for as it is for whoever is far away.
//
// It joins the device o.device of o.near with that of o.far, which it makes; they are gone once it ends.
func wire(ctx context.Context, o options) *report {
	r := &report{name: "wire"}
	var ends [2]*os.File
	for i, namespace := range []string{o.near, o.far} {
		end, err := openTUN(namespace, o.device)
		if !r.check("wire/device in "+namespace, err) {
			return r
		}
		defer end.Close()
		ends[i] = end
	}
	broken := make(chan error, 4)
	for i := range ends {
		in, out, packets := ends[i], ends[1-i], make(chan packet, wireQueue)
		go func() { broken <- takePackets(in, packets, o.delay) }() // these end with the devices
		go func() { broken <- givePackets(out, packets) }()
	}
	select {
	case err := <-broken:
		r.check("wire/carries packets", err)
	case <-ctx.Done():
	}
	return r
}

// packet is one on its way.
type packet struct {
	bytes []byte
	due   time.Time
}

func takePackets(in *os.File, packets chan<- packet, delay time.Duration) error {
	defer close(packets)
	buffer := make([]byte, 64<<10)
	for {
		n, err := in.Read(buffer)
		if err != nil {
			return err
		}
		select {
		case packets <- packet{bytes.Clone(buffer[:n]), time.Now().Add(delay)}:
		default: // lost
		}
	}
}

func givePackets(out *os.File, packets <-chan packet) error {
	for p := range packets {
		time.Sleep(time.Until(p.due))
		if _, err := out.Write(p.bytes); err != nil && !errors.Is(err, unix.EIO) { // EIO: the device is not up yet
			return err
		}
	}
	return nil
}

// openTUN makes a device in a network namespace that `ip netns` has made, and returns where its packets are read and
// written.
func openTUN(namespace, device string) (*os.File, error) {
	opened := make(chan error)
	var f *os.File
	go func() { // its thread, which changes its namespace, ends with it
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + namespace)
		if err != nil {
			opened <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			opened <- fmt.Errorf("enter the network namespace %s: %w", namespace, err)
			return
		}
		f, err = newTUN(device)
		opened <- err
	}()
	err := <-opened
	return f, err
}

// newTUN makes a device for IP packets (Documentation/networking/tuntap.rst in Linux) in the thread's network namespace.
func newTUN(device string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make the device %q: %w", device, err)
	}
	return os.NewFile(uintptr(fd), device), nil
}
