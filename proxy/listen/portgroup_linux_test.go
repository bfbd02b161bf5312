package listen

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// share opens n listeners on one port.
func share(t *testing.T, n int, address string) []*Listener {
	t.Helper()
	cfg := Config{Type: HTTP, Address: address, ReusePort: true}
	var all []*Listener
	for range n {
		l, err := Open(cfg, nil)
		if err != nil {
			t.Fatalf("listen: %v", err)
		}
		t.Cleanup(func() { l.Close() })
		cfg.Address = l.Addr().String()
		all = append(all, l)
	}
	return all
}

// arriving is how many connections are made, so that it is next to impossible that one listener of three gets none.
const arriving = 60

// arrivals makes connections to a port and counts how many of them each listener gets.
func arrivals(t *testing.T, all []*Listener) []int {
	t.Helper()
	counts := make([]int, len(all))
	for range arriving {
		conn, err := net.Dial("tcp", all[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	sum := 0
	for deadline := time.Now().Add(10 * time.Second); sum < arriving && time.Now().Before(deadline); {
		for i, l := range all {
			for end := time.Now().Add(10 * time.Millisecond); time.Now().Before(end) || l.waiting(); {
				l.tcp.SetDeadline(time.Now().Add(5 * time.Millisecond))
				if conn, err := l.tcp.Accept(); err == nil {
					conn.Close()
					counts[i]++
					sum++
				}
			}
		}
	}
	return counts
}

// leaver is a group as the listener sees it that is to leave.
func leaver(l *Listener) *portGroup {
	return &portGroup{listener: l, arrives: func(from netip.AddrPort) bool {
		for end := time.Now().Add(25 * time.Millisecond); time.Now().Before(end) || l.waiting(); {
			l.tcp.SetDeadline(time.Now().Add(5 * time.Millisecond))
			conn, err := l.tcp.AcceptTCP()
			if err != nil {
				continue
			}
			conn.Close()
			if unmapped(conn.RemoteAddr()) == from {
				return true
			}
		}
		return false
	}}
}

// TestPortGroup has each member of groups of several sizes leave: it gets no new connections, the others all get some,
// and go on to get some once it has gone and when another one comes.
func TestPortGroup(t *testing.T) {
	for address, most := range map[string]int{"127.0.0.1:0": 3, "[::1]:0": 2, "0.0.0.0:0": 2, ":0": 2} {
		for size := 2; size <= most; size++ {
			for place := range size {
				t.Run(fmt.Sprintf("%s, %d of %d", address, place, size), func(t *testing.T) {
					t.Parallel()
					all := share(t, size, address)
					group := leaver(all[place])
					for range 2 { // and it may be said again
						if !group.exclude() {
							t.Fatalf("got no way to step aside")
						}
					}
					if group.own != place {
						t.Errorf("got place %d; want %d", group.own, place)
					}
					counts := arrivals(t, all)
					for i, n := range counts {
						if (i == place) != (n == 0) {
							t.Errorf("got %v connections each; want none for %d, and some for the others", counts, place)
							break
						}
					}
					all[place].Close()
					all = slices.Delete(all, place, place+1)
					if counts := arrivals(t, all); slices.Contains(counts, 0) {
						t.Errorf("got %v connections each once it has gone; want some for each", counts)
					}
					all = append(all, share(t, 1, all[0].Addr().String())...)
					if counts := arrivals(t, all); slices.Contains(counts, 0) {
						t.Errorf("got %v connections each with a new one; want some for each", counts)
					}
				})
			}
		}
	}
}

// TestPortGroupChanges: one that is stepping aside goes on doing so when another one comes, or goes.
func TestPortGroupChanges(t *testing.T) {
	all := share(t, 3, "127.0.0.1:0")
	group := leaver(all[2])
	if !group.exclude() {
		t.Fatal("got no way to step aside")
	}
	all[0].Close()
	if !group.exclude() || group.own != 0 || arrivals(t, all[1:])[1] != 0 {
		t.Errorf("got connections in place %d; want none in place 0, which the last one has got", group.own)
	}
	all = append(all[1:], share(t, 1, all[1].Addr().String())...)
	if counts := arrivals(t, all); slices.Contains(counts, 0) {
		t.Errorf("got %v connections each; want some for each, for a new one begins anew", counts)
	}
	if !group.exclude() || arrivals(t, all)[1] != 0 {
		t.Error("got connections after another has come; want none")
	}
}

// TestPortGroupOfOne: who has the port alone goes on getting connections.
func TestPortGroupOfOne(t *testing.T) {
	alone := share(t, 1, "127.0.0.1:0")
	other := share(t, 1, "127.0.0.2:"+strings.Split(alone[0].Addr().String(), ":")[1]) // another address is another group
	if leaver(alone[0]).exclude() || leaver(other[0]).exclude() {
		t.Error("stepped aside for nobody")
	}
	if got := arrivals(t, alone); got[0] != arriving {
		t.Errorf("got %d connections; want %d", got[0], arriving)
	}
}
