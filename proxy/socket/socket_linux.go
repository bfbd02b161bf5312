package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below do not tell Go's scheduler that they are being made, as syscall.Read and Write do. They never wait,
// so that there is nothing to tell; and being told, it keeps a thread awake that looks after threads which do, and
// makes each call cost a tenth more.

// receive is recvfrom(2) without waiting. p is not empty.
func receive(fd uintptr, p []byte, flags int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			uintptr(flags|syscall.MSG_DONTWAIT), 0, 0)
		if errno != syscall.EINTR {
			return transferred(n, errno)
		}
	}
}

// send is sendto(2) without waiting. p is not empty. A peer that is gone is an error, not a signal.
func send(fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if errno != syscall.EINTR {
			return transferred(n, errno)
		}
	}
}

// sendBoth is sendmsg(2) without waiting. Neither part is empty.
func sendBoth(fd uintptr, head, body []byte) (int, error) {
	parts := [2]unix.Iovec{{Base: &head[0]}, {Base: &body[0]}}
	parts[0].SetLen(len(head))
	parts[1].SetLen(len(body))
	message := unix.Msghdr{Iov: &parts[0]}
	message.SetIovlen(len(parts))
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		if errno != syscall.EINTR {
			return transferred(n, errno)
		}
	}
}

// transferred is what a call has returned, as Go's functions return it.
func transferred(n uintptr, errno syscall.Errno) (int, error) {
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN:
		return 0, syscall.EAGAIN // as a constant, it is no allocation
	}
	return 0, errno
}

// hungUp reports whether the peer has sent FIN, and whether the connection is broken, whatever may still be there to
// read.
func hungUp(fd uintptr) (ended, broken bool) {
	look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(look, 0); err != nil || n == 0 {
		return false, false
	}
	return true, look[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// queued returns how many bytes the peer has not acknowledged yet, or -1 where that is not known.
func queued(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	if err != nil {
		return -1
	}
	return n
}
