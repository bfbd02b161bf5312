package proxy

import (
	"bytes"
	"strconv"
	"whsentry/proxy/http1"
)

// keepAliveTimeout returns after how many seconds the destination closes the connection, by its Keep-Alive fields; -1: it
// does not say. (The field is nobody's standard: RFC 2068 section 19.7.1, as servers send it: timeout=5, max=100.)
func keepAliveTimeout(r *http1.Response) int {
	least := -1
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Kind != http1.KindHopByHop || !http1.EqualFold(f.Name.Of(r.Raw), "keep-alive") {
			continue
		}
		if seconds := parseKeepAlive(f.Value.Of(r.Raw)); seconds >= 0 && (least < 0 || seconds < least) {
			least = seconds
		}
	}
	return least
}

// parseKeepAlive returns the least timeout of one field's value, or -1.
func parseKeepAlive(value []byte) int {
	least := -1
	for parameter := range bytes.SplitSeq(value, []byte{','}) {
		name, number, _ := bytes.Cut(parameter, []byte{'='})
		digits := bytes.Trim(number, " \t\"")
		if !http1.EqualFold(bytes.Trim(name, " \t"), "timeout") || len(digits) == 0 || len(bytes.Trim(digits, "0123456789")) > 0 {
			continue
		}
		seconds, err := strconv.ParseUint(string(digits), 10, 31)
		if err != nil {
			seconds = 1 << 30 // over every lifetime
		}
		if least < 0 || int(seconds) < least {
			least = int(seconds)
		}
	}
	return least
}
