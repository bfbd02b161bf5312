//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// haproxyConfig is the file that users are shown. It names the addresses below, and the proxy's default ports.
const (
	haproxyConfig = "deploy/haproxy/haproxy.cfg"
	balanced      = "10.0.0.10:9090"
)

var instanceHosts = []string{"10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"}

// instances are the whsentrys behind a load balancer, by host.
type instances struct {
	*stage
	running map[string]*sentry
	served  map[string]int // requests, of those that have stopped too
	starts  int
}

// scaling runs three instances behind HAProxy under load while one stops, one comes, and all are started anew.
func scaling(ctx context.Context, o options) *report {
	t := &stage{ctx: ctx, o: o, r: &report{name: "scaling"}}
	i := &instances{stage: t, running: map[string]*sentry{}, served: map[string]int{}}
	defer i.killAll()
	for _, host := range instanceHosts[:3] {
		if !t.r.check("scaling/"+host+" starts", i.start(host)) {
			return t.r
		}
	}
	balancer, err := i.balance()
	if !t.r.check("scaling/HAProxy with the file that users are shown has all three", err) {
		return t.r
	}
	defer func() {
		balancer.Process.Kill()
		balancer.Wait()
	}()
	f := newFleet()
	err = t.serving(f, func() error { return i.change(f) })
	t.r.check("scaling/one stops, one comes, and each is started anew: no request fails"+f.counts(), err)
	fmt.Printf("requests served by each: %v\n", i.served)
	return t.r
}

// start starts an instance on the ports that are the default.
func (i *instances) start(host string) error {
	i.starts++
	address, metrics := host+":9090", host+":2112"
	s, err := launch(i.o, filepath.Join(i.o.scratch, fmt.Sprintf("%s-%d", host, i.starts)), allowed, "--listener-address", address, "--metrics-address", metrics)
	if err != nil {
		return err
	}
	s.address, s.metrics = address, metrics
	i.running[host] = s
	return s.ready(i.ctx)
}

// stop stops an instance while it has work, and notes how much of it there was.
func (i *instances) stop(host string) error {
	s := i.running[host]
	delete(i.running, host)
	samples, err := s.scrape()
	if err != nil {
		s.kill()
		return err
	}
	i.served[host] += int(sum(samples, "whsentry_requests_total"))
	return s.stop(stopLimit)
}

func (i *instances) killAll() {
	for _, s := range i.running {
		s.kill()
	}
}

// balance starts HAProxy and waits until each instance has got a connection through it.
func (i *instances) balance() (*exec.Cmd, error) {
	output, err := os.Create(filepath.Join(i.o.scratch, "haproxy.log"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	balancer := exec.Command("haproxy", "-db", "-f", haproxyConfig)
	balancer.Stdout, balancer.Stderr = output, output
	if err := balancer.Start(); err != nil {
		return nil, err
	}
	err = eventually(i.ctx, 15*time.Second, func() error {
		conn, err := net.DialTimeout("tcp", balanced, time.Second)
		if err == nil {
			conn.Close()
			err = i.reached(instanceHosts[:3]...)
		}
		return err
	})
	if err != nil {
		balancer.Process.Kill()
		balancer.Wait()
		log, _ := os.ReadFile(output.Name())
		return nil, fmt.Errorf("%w: %s", err, log)
	}
	return balancer, nil
}

// reached reports which of the hosts has had no client besides the one that looked whether it is ready.
func (i *instances) reached(hosts ...string) error {
	for _, host := range hosts {
		samples, err := i.running[host].scrape()
		if err != nil {
			return err
		}
		if sum(samples, "whsentry_client_connections_total") < 2 {
			return fmt.Errorf("%s gets no connections", host)
		}
	}
	return nil
}

// change is what happens to the instances while clients send.
func (i *instances) change(f *fleet) error {
	const some = 1000
	f.start(plainSenders(balanced, i.destination))
	f.start(slices.Repeat([]sender{tunnelSender(balanced, i.destination)}, 2))
	f.startLibrary(4, balanced, i.destination)
	steps := []func() error{
		func() error { return f.more(i.stage, some) },
		func() error { return i.stop(instanceHosts[0]) },
		func() error { return f.more(i.stage, some) },
		func() error { return i.start(instanceHosts[3]) },
		func() error { return i.joins(f, instanceHosts[3]) },
	}
	for _, host := range instanceHosts[1:] {
		steps = append(steps,
			func() error { return i.stop(host) },
			func() error { return i.start(host) },
			func() error { return i.joins(f, host) })
	}
	steps = append(steps, func() error { return f.more(i.stage, some) })
	var err error
	for _, step := range steps {
		if err = step(); err != nil {
			break
		}
	}
	err = errors.Join(err, f.finish())
	for _, host := range instanceHosts[1:] {
		if i.running[host] != nil {
			err = errors.Join(err, i.stop(host))
		}
	}
	return err
}

// joins waits until an instance has got its share of the load.
func (i *instances) joins(f *fleet, host string) error {
	return eventually(i.ctx, 20*time.Second, func() error {
		if err := i.reached(host); err != nil {
			return err
		}
		samples, err := i.running[host].scrape()
		if err != nil {
			return err
		}
		if n := sum(samples, "whsentry_requests_total"); n < 100 {
			return fmt.Errorf("%s has served %v requests; want 100", host, n)
		}
		return nil
	})
}

// tunnelSender is a client that opens a tunnel for each request.
func tunnelSender(address, to string) sender {
	dial := func() (net.Conn, error) {
		conn, err := dialReader(address)
		if err != nil {
			return nil, err
		}
		answer, err := conn.ask("CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n\r\n")
		if err == nil {
			err = want("CONNECT", answer.verdict(), "200/0")
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		return conn.Conn, nil // the destination says nothing of its own accord, so that the reader holds nothing
	}
	return sender{name: "tunnel", dial: dial, to: to, body: 200, pause: fleetPause}
}
