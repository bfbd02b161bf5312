package upstream

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"whsentry/proxy/socket"
)

// keepAliveMargin is how long before the end that a destination has announced its connection is no longer used: a request
// that crosses its closing would be lost.
const keepAliveMargin = int64(time.Second)

// KeptUntil returns when a connection is not to be used any more whose destination has said at that time, in a Keep-Alive
// field of that value, how long it keeps it: a second before that, socket.Never where the value does not say. (The field
// is nobody's standard: RFC 2068 section 19.7.1, as servers send it: timeout=5, max=100.)
func KeptUntil(at socket.Tick, value []byte) socket.Tick {
	until := socket.Never
	for parameter := range bytes.SplitSeq(value, []byte{','}) {
		name, number, _ := bytes.Cut(parameter, []byte{'='})
		if !bytes.EqualFold(bytes.Trim(name, " \t"), []byte("timeout")) {
			continue
		}
		seconds, ok := parseSeconds(bytes.Trim(number, " \t\""))
		if !ok {
			continue
		}
		until = min(until, at+seconds*int64(time.Second)-keepAliveMargin)
	}
	return until
}

// parseSeconds parses a number of seconds; one that no connection lives for is as good as any other such.
func parseSeconds(digits []byte) (seconds int64, ok bool) {
	if len(digits) == 0 || len(bytes.Trim(digits, "0123456789")) > 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil {
		return math.MaxInt32, true
	}
	return int64(n), true
}
