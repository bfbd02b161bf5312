package upstream

import (
	"fmt"
	"net/netip"
	"testing"

	"whsentry/proxy/socket"
)

// allowAll judges nothing.
type allowAll struct{}

func (*allowAll) Check(netip.AddrPort) error { return nil }

// rounds takes a connection to a real destination, one of a thousand, and lays it to rest again.
func poolRounds(t testing.TB) func() {
	p := newPoolPeers(t)
	key := []byte("hooks.shop.example:443")
	p.pool.Put(p.add(string(key), Route{}), socket.Now(), socket.Never)
	for i := range 999 {
		p.pool.Reserve(fmt.Appendf(nil, "hooks-%d.shop.example:443", i), 1)
	}
	judge := new(allowAll)
	return func() {
		u := p.pool.Get(p.pool.Reserve(key, 256), Route{}, socket.Now(), judge)
		if u == nil {
			t.Fatal("got no connection; want the one at rest")
		}
		p.pool.Put(u, socket.Now(), socket.Never)
	}
}

func BenchmarkPool(b *testing.B) {
	round := poolRounds(b)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
}

func TestAllocPool(t *testing.T) {
	if got := testing.AllocsPerRun(1000, poolRounds(t)); got != 0 {
		t.Errorf("got %v allocations to take a connection and lay it to rest; want 0", got)
	}
}
