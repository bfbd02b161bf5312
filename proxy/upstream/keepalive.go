package upstream

import (
	"time"

	"whsentry/proxy/socket"
)

// keepAliveMargin is how long before the end that a destination has announced its connection is no longer used: a request
// that crosses its closing would be lost.
const keepAliveMargin = int64(time.Second)

// KeptUntil returns until when a connection may be used again whose destination has said, at that time, that it keeps it
// for so many seconds; a negative number: it has not said. The result is for Pool.Put.
func KeptUntil(at socket.Tick, seconds int) socket.Tick {
	if seconds < 0 {
		return socket.Never
	}
	const most = 1 << 31 // over every lifetime
	return at + min(int64(seconds), most)*int64(time.Second) - keepAliveMargin
}
