package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// liar is a resolver that decides about every byte of its answers. Unlike dnsServer it can send what is no message.
type liar struct {
	packets net.PacketConn
	streams net.Listener
	serving sync.WaitGroup

	// udp returns the datagrams that answer a question; tcp answers one on a connection, which is closed after it.
	udp func(q []byte) [][]byte
	tcp func(conn net.Conn, q []byte)

	mu   sync.Mutex // guards open
	open []net.Conn
}

// startLiar starts a resolver; without tcp the port refuses connections.
func startLiar(t testing.TB, udp func(q []byte) [][]byte, tcp func(conn net.Conn, q []byte)) netip.AddrPort {
	t.Helper()
	l := &liar{udp: udp, tcp: tcp}
	for range 20 { // until both have the same port
		var err error
		if l.packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if l.streams, err = net.Listen("tcp", l.packets.LocalAddr().String()); err == nil {
			break
		}
		l.packets.Close()
	}
	if l.streams == nil {
		t.Fatal("no port is free for both UDP and TCP")
	}
	if tcp == nil {
		l.streams.Close()
	}
	l.serving.Go(l.serveUDP)
	l.serving.Go(l.serveTCP)
	t.Cleanup(l.stop)
	return netip.MustParseAddrPort(l.packets.LocalAddr().String())
}

func (l *liar) stop() {
	l.packets.Close()
	l.streams.Close()
	l.mu.Lock()
	for _, conn := range l.open {
		conn.Close()
	}
	l.mu.Unlock()
	l.serving.Wait()
}

func (l *liar) serveUDP() {
	buf := make([]byte, 1500)
	for {
		n, from, err := l.packets.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, datagram := range l.udp(buf[:n]) {
			l.packets.WriteTo(datagram, from)
		}
	}
}

func (l *liar) serveTCP() {
	for {
		conn, err := l.streams.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		l.open = append(l.open, conn)
		l.mu.Unlock()
		l.serving.Go(func() { // ends with the connection
			defer conn.Close()
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, q); err == nil {
				l.tcp(conn, q)
			}
		})
	}
}

// answerTo begins an answer to a packed question: its header with flags and code, and counts of records, then the
// question itself. Records are appended by hand.
func answerTo(q []byte, flags uint16, answers, authorities, additionals int) []byte {
	end := 12
	for q[end] != 0 {
		end += 1 + int(q[end])
	}
	end += 5 // the root, type and class
	a := append([]byte(nil), q[:2]...)
	a = binary.BigEndian.AppendUint16(a, 1<<15|flags)
	for _, count := range []int{1, answers, authorities, additionals} {
		a = binary.BigEndian.AppendUint16(a, uint16(count))
	}
	return append(a, q[12:end]...)
}

// record is a resource record after its owner; owner is packed already, "\xc0\x0c" being the name that was asked for.
func record(owner string, rrtype uint16, ttl uint32, data string) []byte {
	r := binary.BigEndian.AppendUint16([]byte(owner), rrtype)
	r = binary.BigEndian.AppendUint16(r, dns.ClassINET)
	r = binary.BigEndian.AppendUint32(r, ttl)
	return append(binary.BigEndian.AppendUint16(r, uint16(len(data))), data...)
}

const (
	asked    = "\xc0\x0c"         // the question's name
	inside   = "\x0a\x00\x00\x01" // 10.0.0.1
	outside  = "\x08\x08\x04\x04" // 8.8.4.4
	truncate = 1 << 9             // the flag TC
)

func qtypeOf(q []byte) uint16 {
	whole := answerTo(q, 0, 0, 0, 0)
	return binary.BigEndian.Uint16(whole[len(whole)-4:])
}

// withA is the answer with these records to a question for A, and one without records to any other.
func withA(flags uint16, records ...[]byte) func(q []byte) []byte {
	return func(q []byte) []byte {
		if qtypeOf(q) != dns.TypeA {
			return answerTo(q, flags, 0, 0, 0)
		}
		a := answerTo(q, flags, len(records), 0, 0)
		for _, r := range records {
			a = append(a, r...)
		}
		return a
	}
}

// impatient makes g wait less for each answer of a server that may be silent, so that tests are quick.
func impatient(g *Guard, with netip.AddrPort) {
	query := g.resolver.query
	g.resolver.query = func(ctx context.Context, server netip.AddrPort, name string, qtype uint16) (*dns.Msg, error) {
		if server == with {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, defaultTryTimeout/5)
			defer cancel()
		}
		return query(ctx, server, name, qtype)
	}
}

// TestLyingResolvers asks a resolver whose answers break the protocol in every way, and one that tells the truth, 8.8.8.8,
// where the first is not to be believed. Whatever it says, no address comes of it that does not belong to the name.
func TestLyingResolvers(t *testing.T) {
	t.Parallel()
	loop := func(data string, rrtype uint16) func(q []byte) []byte {
		return func(q []byte) []byte { return append(answerTo(q, 0, 1, 0, 0), record(asked, rrtype, 60, data)...) }
	}
	at := func(q []byte) int { return len(answerTo(q, 0, 0, 0, 0)) } // where the first record begins
	pointer := func(to int) string { return string([]byte{0xc0 | byte(to>>8), byte(to)}) }
	const truth = "8.8.8.8"
	for _, row := range []struct {
		name   string
		answer func(q []byte) []byte
		want   string
	}{
		{"an empty datagram, then nothing", func([]byte) []byte { return nil }, truth},
		{"half a header", func(q []byte) []byte { return answerTo(q, 0, 0, 0, 0)[:11] }, truth},
		{"a header alone", func(q []byte) []byte { return answerTo(q, 0, 0, 0, 0)[:12] }, truth},
		{"the question itself", func(q []byte) []byte { return q }, truth},
		{"records promised that are not there", func(q []byte) []byte { return answerTo(q, 0, 65535, 65535, 65535) }, truth},
		{"a record cut in its data", func(q []byte) []byte {
			r := record(asked, dns.TypeA, 60, inside)
			return append(answerTo(q, 0, 1, 0, 0), r[:len(r)-1]...)
		}, truth},
		{"a record longer than the message", func(q []byte) []byte {
			r := record(asked, dns.TypeA, 60, inside)
			r[len(r)-5] = 200
			return append(answerTo(q, 0, 1, 0, 0), r...)
		}, truth},
		{"an address of 3 bytes", withA(0, record(asked, dns.TypeA, 60, inside[:3])), truth},
		{"an address of 5 bytes", withA(0, record(asked, dns.TypeA, 60, inside+"x")), truth},
		{"an IPv6 address as A", withA(0, record(asked, dns.TypeA, 60, strings.Repeat("\x00", 15)+"\x01")), truth},
		{"an address of no bytes", withA(0, record(asked, dns.TypeA, 60, "")), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"an owner that points to itself", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record(pointer(at(q)), dns.TypeA, 60, inside)...)
		}, truth},
		{"an owner that points ahead, to the root", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record(pointer(at(q)+4), dns.TypeA, 60, inside)...)
		}, `"x.example" does not resolve: the name has no address (NODATA)`},
		{"an owner that points beyond the end", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record(pointer(0x3fff), dns.TypeA, 60, inside)...)
		}, truth},
		{"an owner whose label leads back to itself", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record("\x01a"+pointer(at(q)), dns.TypeA, 60, inside)...)
		}, truth},
		{"an owner longer than a name", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record(strings.Repeat("\x3f"+strings.Repeat("a", 63), 5)+"\x00", dns.TypeA, 60, inside)...)
		}, truth},
		{"a label of a type that there is not", func(q []byte) []byte {
			return append(answerTo(q, 0, 1, 0, 0), record("\x80\x0c", dns.TypeA, 60, inside)...)
		}, truth},
		{"an alias that is itself, compressed", loop(asked, dns.TypeCNAME), truth},
		{"an alias without a name", loop("", dns.TypeCNAME), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"an alias to a number", withA(0, record(asked, dns.TypeCNAME, 60, "\x0a2130706433\x00"), record(asked, dns.TypeA, 60, inside)),
			`"x.example" does not resolve: the name has no address (NODATA)`},
		{"another name's address", withA(0, record("\x01y\x07example\x00", dns.TypeA, 60, inside)), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"the parent's address", withA(0, record("\xc0\x0e", dns.TypeA, 60, inside)), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"a name that only looks the same", withA(0, record("\x09x.example\x00", dns.TypeA, 60, inside)), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"a name that goes on after a NUL", withA(0, record("\x02x\x00\x07example\x00", dns.TypeA, 60, inside)), `"x.example" does not resolve: the name has no address (NODATA)`},
		{"an address beside garbage of other types", withA(0, record(asked, 65280, 60, "\xff\xff"), record(asked, dns.TypeA, 60, outside)), "8.8.4.4"},
		{"NXDOMAIN with an address and garbage", func(q []byte) []byte {
			a := append(answerTo(q, dns.RcodeNameError, 1, 1, 1), record(asked, dns.TypeA, 60, inside)...)
			return append(append(a, record(asked, 65280, 60, "\x00\x01")...), record(asked, dns.TypeA, 60, inside)...)
		}, `"x.example" does not resolve: no such host (NXDOMAIN)`},
		{"an address in the additional section alone", func(q []byte) []byte {
			return append(answerTo(q, 0, 0, 0, 1), record(asked, dns.TypeA, 60, inside)...)
		}, `"x.example" does not resolve: the name has no address (NODATA)`},
		{"two questions", func(q []byte) []byte {
			a := append(answerTo(q, 0, 1, 0, 0), q[12:at(q)]...)
			a[5] = 2
			return append(a, record(asked, dns.TypeA, 60, inside)...)
		}, truth},
		{"bytes behind the end", func(q []byte) []byte {
			return append(withA(0, record(asked, dns.TypeA, 60, outside))(q), strings.Repeat("x", 500)...)
		}, "8.8.4.4"},
		{"more than it was invited to send", func(q []byte) []byte {
			return withA(0, record(asked, dns.TypeA, 60, outside), record(asked, dns.TypeTXT, 60, strings.Repeat("\xff"+strings.Repeat("a", 255), 8)))(q)
		}, "8.8.4.4"},
		{"many times what it was invited to send", func(q []byte) []byte {
			return withA(0, record(asked, dns.TypeTXT, 60, strings.Repeat("\xff"+strings.Repeat("a", 255), 60)), record(asked, dns.TypeA, 60, outside))(q)
		}, "8.8.4.4"},
		{"as much as there is room for at first", func(q []byte) []byte {
			a := withA(0, record(asked, dns.TypeA, 60, outside))(q)
			return append(a, strings.Repeat("x", commonDatagram-len(a))...)
		}, "8.8.4.4"},
		{"nonsense that fills what there is room for at first", func(q []byte) []byte {
			a := answerTo(q, 0, 1, 0, 0)
			return append(a, strings.Repeat("\xff", commonDatagram-len(a))...)
		}, truth},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			hostile := startLiar(t, func(q []byte) [][]byte { return [][]byte{row.answer(q)} }, nil)
			good := startDNS(t, zone("x.example. 60 IN A 8.8.8.8"))
			g, _ := resolverFor(t, nil, hostile, good.addr)
			if row.want == truth {
				impatient(g, hostile)
			}
			if got := lookupText(t, g, "x.example"); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
		})
	}
}

// TestLyingOverTCP has answers truncated over UDP, and everything go wrong over TCP.
func TestLyingOverTCP(t *testing.T) {
	t.Parallel()
	message := func(m []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...) }
	good := withA(0, record(asked, dns.TypeA, 60, outside))
	wait := func(conn net.Conn) { io.Copy(io.Discard, conn) } // until the proxy has had enough
	const truth = "8.8.8.8"
	for _, row := range []struct {
		name string
		tcp  func(conn net.Conn, q []byte)
		want string
	}{
		{"refused", nil, truth},
		{"closed at once", func(net.Conn, []byte) {}, truth},
		{"reset", func(conn net.Conn, _ []byte) { conn.(*net.TCPConn).SetLinger(0) }, truth},
		{"nothing", func(conn net.Conn, _ []byte) { wait(conn) }, truth},
		{"half a length", func(conn net.Conn, _ []byte) { conn.Write([]byte{0}); wait(conn) }, truth},
		{"a length of 0", func(conn net.Conn, _ []byte) { conn.Write([]byte{0, 0}) }, truth},
		{"a length of 65,535 and little behind it", func(conn net.Conn, q []byte) { conn.Write(append([]byte{255, 255}, good(q)...)) }, truth},
		{"a message that stalls", func(conn net.Conn, q []byte) {
			m := message(good(q))
			conn.Write(m[:len(m)-1])
			wait(conn)
		}, truth},
		{"a byte now and then", func(conn net.Conn, q []byte) {
			conn.Write([]byte{255, 255})
			for {
				if _, err := conn.Write([]byte{0}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // less than any limit on a single read
			}
		}, truth},
		{"another id", func(conn net.Conn, q []byte) {
			m := message(good(q))
			m[2]++
			conn.Write(m)
		}, truth},
		{"another question", func(conn net.Conn, q []byte) {
			m := message(good(q))
			m[2+12+1] = 'y'
			conn.Write(m)
		}, truth},
		{"truncated again", func(conn net.Conn, q []byte) {
			conn.Write(message(withA(truncate, record(asked, dns.TypeA, 60, outside))(q)))
		}, "8.8.4.4"},
		{"two messages", func(conn net.Conn, q []byte) {
			conn.Write(append(message(good(q)), message(withA(0, record(asked, dns.TypeA, 60, inside))(q))...))
		}, "8.8.4.4"},
		{"a byte at a time, and soon", func(conn net.Conn, q []byte) {
			for _, b := range message(good(q)) {
				conn.Write([]byte{b})
			}
		}, "8.8.4.4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			hostile := startLiar(t, func(q []byte) [][]byte { return [][]byte{answerTo(q, truncate, 0, 0, 0)} }, row.tcp)
			good := startDNS(t, zone("x.example. 60 IN A 8.8.8.8"))
			g, _ := resolverFor(t, nil, hostile, good.addr)
			if row.want == truth {
				impatient(g, hostile)
			}
			if got := lookupText(t, g, "x.example"); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
		})
	}
}

// TestHugeAnswer fills the 65,535 bytes that a message can have: with thousands of addresses, and with names that
// unpack to many times their size. All addresses come out, to be judged, and nothing else is kept.
func TestHugeAnswer(t *testing.T) {
	fill := func(q []byte, r func(i int) []byte) []byte {
		a := answerTo(q, 0, 0, 0, 0)
		for n := 1; ; n++ {
			next := r(n)
			if len(a)+len(next) > 65535 {
				return a
			}
			a = append(a, next...)
			binary.BigEndian.PutUint16(a[6:], uint16(n))
		}
	}
	var long strings.Builder // a name of 255 bytes; every record's owner points to it
	for range 3 {
		long.WriteString("\x3f" + strings.Repeat("a", 63))
	}
	long.WriteString("\x3d" + strings.Repeat("b", 61) + "\x00")
	for _, row := range []struct {
		name string
		r    func(q []byte) func(i int) []byte
		want int
	}{
		{"addresses", func([]byte) func(int) []byte {
			return func(i int) []byte {
				return record(asked, dns.TypeA, 60, fmt.Sprintf("\x08\x08%c", i>>8)[:2]+string([]byte{byte(i >> 8), byte(i)}))
			}
		}, (65535 - 27) / 16},
		{"the same address", func([]byte) func(int) []byte {
			return func(int) []byte { return record(asked, dns.TypeA, 60, outside) }
		}, 1},
		{"aliases of long names", func(q []byte) func(int) []byte {
			begin := len(answerTo(q, 0, 0, 0, 0))
			to := string([]byte{0xc0 | byte(begin>>8), byte(begin)})
			return func(i int) []byte {
				if i == 1 {
					return record(long.String(), dns.TypeA, 60, inside)
				}
				return record(to, dns.TypeCNAME, 60, to)
			}
		}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			hostile := startLiar(t, func(q []byte) [][]byte { return [][]byte{answerTo(q, truncate, 0, 0, 0)} },
				func(conn net.Conn, q []byte) {
					m := answerTo(q, 0, 0, 0, 0)
					if qtypeOf(q) == dns.TypeA {
						m = fill(q, row.r(q))
					}
					conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
				})
			g, _ := resolverFor(t, nil, hostile)
			got, err := NewDialer(g).Resolve(t.Context(), "x.example")
			if len(got) != row.want || (err == nil) != (row.want > 0) {
				t.Errorf("got %d addresses, %v; want %d", len(got), err, row.want)
			}
			if e := g.resolver.cache.entries["x.example"]; e != nil && cap(e.addrs) > row.want {
				t.Errorf("%d places for addresses are remembered; want %d at most", cap(e.addrs), row.want)
			}
		})
	}
}

// TestAnswerFromAnotherPort has what somebody else sends in the resolver's place come first: it is not even seen.
func TestAnswerFromAnotherPort(t *testing.T) {
	stranger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	real, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := real.ReadFrom(buf)
			if err != nil {
				return
			}
			stranger.WriteTo(withA(0, record(asked, dns.TypeA, 60, inside))(buf[:n]), from)
			real.WriteTo(withA(0, record(asked, dns.TypeA, 60, outside))(buf[:n]), from)
		}
	})
	defer serving.Wait()
	defer real.Close()
	g, _ := resolverFor(t, nil, netip.MustParseAddrPort(real.LocalAddr().String()))
	if got := lookupText(t, g, "x.example"); got != "8.8.4.4" {
		t.Errorf("got %s; want 8.8.4.4", got)
	}
}

// TestFloodOfForgedAnswers sends as many as it can for as long as anybody listens: they do not prolong the wait.
func TestFloodOfForgedAnswers(t *testing.T) {
	stopped := make(chan struct{})
	var flooding sync.WaitGroup
	var hostile netip.AddrPort
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hostile = netip.MustParseAddrPort(packets.LocalAddr().String())
	flooding.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			forged := withA(0, record(asked, dns.TypeA, 60, inside))(buf[:n])
			forged[0]++
			flooding.Go(func() {
				for {
					select {
					case <-stopped:
						return
					case <-time.After(time.Millisecond):
						packets.WriteTo(forged, from)
					}
				}
			})
		}
	})
	defer flooding.Wait()
	defer packets.Close()
	defer close(stopped)
	g, _ := resolverFor(t, nil, hostile)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if as, err := NewDialer(g).Resolve(ctx, "x.example"); err == nil {
		t.Errorf("got %v; want that nobody answers", as)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s; want some 300ms", took)
	}
}

// TestLongestTTL checks that no answer is remembered for longer than dns.cacheTTL, whatever it says.
func TestLongestTTL(t *testing.T) {
	for _, ttl := range []uint32{1<<31 - 1, 1 << 31, 1<<32 - 1} {
		t.Run(fmt.Sprint(ttl), func(t *testing.T) {
			hostile := startLiar(t, func(q []byte) [][]byte { return [][]byte{withA(0, record(asked, dns.TypeA, ttl, outside))(q)} }, nil)
			g, clock := resolverFor(t, func(c *Config) { c.DNSCacheTTL = time.Minute }, hostile)
			lookupText(t, g, "x.example")
			var got time.Duration
			if e, ok := g.resolver.cache.entries["x.example"]; ok {
				got = e.expires.Sub(clock.now())
			}
			want := time.Minute
			if ttl > 1<<31-1 {
				want = 0
			}
			if got != want {
				t.Errorf("remembered for %s; want %s", got, want)
			}
		})
	}
}

// TestNoDescriptorForAQuestion checks that a resolver is not blamed for what this host lacks.
func TestNoDescriptorForAQuestion(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		t.Run(errno.Error(), func(t *testing.T) {
			g, _ := resolverFor(t, nil, netip.MustParseAddrPort("192.0.2.1:53"))
			g.resolver.query = func(context.Context, netip.AddrPort, string, uint16) (*dns.Msg, error) {
				return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", errno)}
			}
			want := `"x.example" does not resolve: no resolver answers: ` + errno.Error()
			if got := lookupText(t, g, "x.example"); got != want {
				t.Errorf("got %s; want %s", got, want)
			}
			if len(g.resolver.silent) != 0 {
				t.Errorf("%v counts as silent", g.resolver.silent)
			}
		})
	}
}

// TestSystemFileThatCannotBeRead checks that what was read of it stays until it can be read again, or is gone.
func TestSystemFileThatCannotBeRead(t *testing.T) {
	s := startDNS(t, zone("x.example. 0 IN A 8.8.8.8"))
	cfg, env, clock := DefaultConfig(), testEnvironment(t), &testClock{at: time.Now()}
	cfg.DNSServers = []netip.AddrPort{s.addr}
	env.now = clock.now
	unreadable := func() { // a directory can be opened, but not read, whoever asks
		os.Remove(env.hostsPath)
		if err := os.Mkdir(env.hostsPath, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	unreadable()
	g, err := newGuard(cfg, Hooks{}, env)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		change func()
		want   string
	}{
		{"from the start", func() {}, "8.8.8.8"},
		{"readable", func() { os.Remove(env.hostsPath); writeFile(t, env.hostsPath, "10.0.0.1 x.example\n") }, "10.0.0.1"},
		{"unreadable again", unreadable, "10.0.0.1"},
		{"and still", func() {}, "10.0.0.1"},
		{"changed meanwhile", func() { os.Remove(env.hostsPath); writeFile(t, env.hostsPath, "10.0.0.2 x.example\n") }, "10.0.0.2"},
		{"gone", func() { os.Remove(env.hostsPath) }, "8.8.8.8"},
	} {
		step.change()
		clock.add(snapshotFresh + time.Millisecond)
		if got := lookupText(t, g, "x.example"); got != step.want {
			t.Errorf("%s: got %s; want %s", step.name, got, step.want)
		}
	}
}

// TestManySilentAddresses has a name lead to as many addresses as one can, where nobody answers but at one of them: a
// request for it takes a few sockets at a time, and finds the one.
func TestManySilentAddresses(t *testing.T) {
	for _, row := range []struct {
		name      string
		addresses int
		answers   int // which of them; -1: none
		took      time.Duration
		refused   bool // by those that do not answer
	}{
		{"as many as are tried at once, the last", attemptsAtOnce, attemptsAtOnce - 1, (attemptsAtOnce - 1) * attemptDelay, false},
		{"as many as are tried at once, none", attemptsAtOnce, -1, 10 * time.Second, false},
		{"one more, the last", attemptsAtOnce + 1, attemptsAtOnce, attemptsAtOnce * attemptDelay, false},
		{"one more, none", attemptsAtOnce + 1, -1, 10 * time.Second, false},
		{"a family, the last", maxTried / 2, maxTried/2 - 1, (maxTried/2 - 1) * attemptDelay, false},
		{"all, none", maxTried, -1, 10 * time.Second, false},
		{"all refuse but the last", maxTried, maxTried - 1, 0, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var order []string
				scripts := map[string]script{}
				for i := range row.addresses {
					a := fmt.Sprintf("8.8.8.%d", i)
					order = append(order, a)
					if i != row.answers {
						scripts[a] = script{after: time.Hour}
					}
					if i != row.answers && row.refused {
						scripts[a] = script{err: opError(syscall.ECONNREFUSED)}
					}
				}
				d, _, _ := fakeDialer(t, DefaultConfig(), order, scripts)
				connect := d.connect
				var now, most atomic.Int32
				d.connect = func(d *Dialer, ctx context.Context, to netip.AddrPort, source netip.Addr) (Conn, error) {
					most.Store(max(most.Load(), now.Add(1))) // nothing runs at the same time in a bubble with one timer each
					defer now.Add(-1)
					return connect(d, ctx, to, source)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				conn, _, err := d.Dial(ctx, "x.example", 80)
				took := time.Since(began)
				var failed *ConnectError
				if row.answers < 0 && (!errors.As(err, &failed) || !failed.Timeout()) {
					t.Errorf("got %v; want that time ran out", err)
				}
				if row.answers >= 0 && (err != nil || conn.(*fakeConn).addr.String() != order[row.answers]) {
					t.Errorf("got %v, %v; want a connection to %s", conn, err, order[row.answers])
				}
				if took != row.took {
					t.Errorf("took %s; want %s", took, row.took)
				}
				if most.Load() > attemptsAtOnce {
					t.Errorf("got %d attempts at once; want %d at most", most.Load(), attemptsAtOnce)
				}
				time.Sleep(attemptDelay)
				synctest.Wait()
			})
		})
	}
}

// TestBrokenOffAtOnce checks that a destination which accepts and resets is not taken for a refused address: the socket
// is connected to nothing any more when it is judged.
func TestBrokenOffAtOnce(t *testing.T) {
	d := NewDialer(testGuard(t, DefaultConfig(), Hooks{}))
	to := netip.MustParseAddrPort("8.8.8.8:80")
	for _, row := range []struct {
		name string
		peer netip.AddrPort
		want error
	}{
		{"connected", to, nil},
		{"broken off", netip.AddrPort{}, syscall.ECONNRESET},
	} {
		if err := d.checkPeer(peerConn{peer: row.peer}, to); err != row.want {
			t.Errorf("%s: got %v; want %v", row.name, err, row.want)
		}
	}
}

// peerConn is a connection to peer.
type peerConn struct {
	Conn
	peer netip.AddrPort
}

func (c peerConn) Peer() netip.AddrPort { return c.peer }
