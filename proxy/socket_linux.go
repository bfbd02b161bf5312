package proxy

import "golang.org/x/sys/unix"

// hungUp reports whether the peer has sent FIN, or broken the connection off, whatever may still be there to read.
func hungUp(fd uintptr) bool {
	look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(look, 0)
	return err == nil && n > 0
}

// queued returns how many bytes the peer has not acknowledged yet, or -1 where that is not known.
func queued(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	if err != nil {
		return -1
	}
	return n
}
