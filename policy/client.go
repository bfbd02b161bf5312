package policy

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Client is somebody who may send: an entry of clients, or where there are none, everybody. It is safe for concurrent
// use.
type Client struct {
	// Name is that of the settings; "" where clients is not set.
	Name string
	// AllowList (cidrAllowList) is what the guard is to let through for it alone; cidrDenyList beats it, and it lifts
	// no metadata address. It must not be changed.
	AllowList []netip.Prefix
	// AllowListID tells connections made under one AllowList from those made under another; 0: it is empty.
	AllowListID uint64
	// CheckAddresses says whether the URL check tells it addresses.
	CheckAddresses bool

	tokens       [][32]byte
	certificates certificateRules
	addresses    []netip.Prefix

	mode        mode
	allow, deny *hostIndex // nil: no such list
	ports       portSet
	aliases     map[string]bool // nil: all

	maxConnections int64 // 0: no limit
	inFlight       *atomic.Int64
	requests       *rate.Limiter // nil: no limit
	checks         *rate.Limiter
}

type mode string

const (
	enforce mode = "enforce"
	report  mode = "report"
	open    mode = "open"
)

// Verdict is whether a client may send to a host and port.
type Verdict uint8

const (
	// Denied is 1019.
	Denied Verdict = iota
	// WouldDeny goes through, for the client's mode is report, and is logged as would_deny.
	WouldDeny
	// Allowed goes through.
	Allowed
)

// Judge says whether c may send to h at port, which is the port connected to. It says nothing of addresses: the guard
// does. It does not allocate, and costs one look in a map for each label of a name.
func (c *Client) Judge(h Host, port uint16) Verdict {
	switch {
	case c.mode == open, c.ports.holds(port) && c.mayReach(h):
		return Allowed
	case c.mode == report:
		return WouldDeny
	}
	return Denied
}

// mayReach holds the host rules against h. Rules made of names say nothing of addresses, so where there are rules a
// literal has to fit one for prefixes: else denyHosts would be passed by writing the address instead of the name.
func (c *Client) mayReach(h Host) bool {
	if c.deny != nil && c.deny.first(h, 0) >= 0 {
		return false
	}
	if c.allow != nil {
		return c.allow.first(h, 0) >= 0
	}
	return c.deny == nil || !h.addr.IsValid() || len(c.deny.prefixes) > 0
}

// Acquire counts one request or tunnel that is in flight, and returns false where maxConnections of them are already:
// 1020. What it counted ends with Release.
func (c *Client) Acquire() bool {
	if c.inFlight == nil {
		return true
	}
	for {
		n := c.inFlight.Load()
		if c.maxConnections > 0 && n >= c.maxConnections {
			return false
		}
		if c.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Retake counts again what was given back by Release too early. It may pass maxConnections.
func (c *Client) Retake() {
	if c.inFlight != nil {
		c.inFlight.Add(1)
	}
}

// Release ends what Acquire or Retake counted. It is to be called once, on the Client that Acquire was called on, also where
// another configuration holds by then.
func (c *Client) Release() {
	if c.inFlight != nil {
		c.inFlight.Add(-1)
	}
}

// TakeRequest returns whether requestsPerSecond has room for one more at now, and takes it. Where not, 1020, there is
// room again within a second.
func (c *Client) TakeRequest(now time.Time) bool {
	return c.requests == nil || c.requests.AllowN(now, 1)
}

// checksPerSecond is how many URL checks each client may ask for, or all together where clients is not set.
const checksPerSecond = 20

// TakeCheck is like TakeRequest for the URL check, which has a rate of its own: 20 a second.
func (c *Client) TakeCheck(now time.Time) bool { return c.checks.AllowN(now, 1) }

// goOn makes c continue what was counted for the client of the same name at now. It changes nothing of previous, which
// may still be in use, and go on to be.
func (c *Client) goOn(previous *Client, now time.Time) {
	c.inFlight, c.checks = previous.inFlight, previous.checks
	switch {
	case c.requests == nil || previous.requests == nil:
	case c.requests.Limit() == previous.requests.Limit():
		c.requests = previous.requests
	default: // what is left of the old burst is the new one's, so that a reload gives no second one
		used := c.requests.Burst() - int(previous.requests.TokensAt(now))
		c.requests.AllowN(now, min(max(used, 0), c.requests.Burst()))
	}
}
