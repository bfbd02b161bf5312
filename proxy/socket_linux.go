package proxy

import "golang.org/x/sys/unix"

// hungUp reports whether the peer has sent FIN, or broken the connection off, whatever may still be there to read.
func hungUp(fd uintptr) bool {
	look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(look, 0)
	return err == nil && n > 0
}
