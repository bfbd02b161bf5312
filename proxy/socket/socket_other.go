//go:build !linux

package socket

import "syscall"

// receive is recvfrom(2) without waiting. p is not empty.
func receive(fd uintptr, p []byte, flags int) (int, error) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), p, flags|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// send is write(2) on a socket that does not wait. p is not empty.
func send(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// sendBoth sends head; body is for the next call.
func sendBoth(fd uintptr, head, _ []byte) (int, error) { return send(fd, head) }

// hungUp is Linux's alone.
func hungUp(uintptr) (ended, broken bool) { return false, false }

// queued is Linux's alone.
func queued(uintptr) int { return -1 }
