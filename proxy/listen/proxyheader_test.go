package listen

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
)

// v2 returns a version 2 header about a connection from source, with the extensions of a cloud's load balancer.
func v2(t testing.TB, source string, command proxyproto.ProtocolVersionAndCommand) []byte {
	t.Helper()
	h := proxyproto.Header{Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4}
	h.SourceAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
	h.DestinationAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9090}
	if strings.HasPrefix(source, "[") {
		h.TransportProtocol = proxyproto.TCPv6
		h.DestinationAddr = &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 9090}
	}
	h.SetTLVs([]proxyproto.TLV{{Type: 0xEA, Value: []byte("\x01vpce-08d2bf15fac5001c9")}})
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyHeader(t *testing.T) {
	const gone = -1 // not a header
	for _, tt := range []struct {
		name, header string
		length       int    // of the header; 0: more is needed
		source       string // "": it names none
		malformed    bool
	}{
		{name: "version 1", header: "PROXY TCP4 203.0.113.7 192.0.2.1 56324 9090\r\n", length: 45, source: "203.0.113.7:56324"},
		{name: "version 1 over IPv6", header: "PROXY TCP6 2001:db8::7 2001:db8::1 56324 9090\r\n", length: 47, source: "[2001:db8::7]:56324"},
		{name: "version 1, unknown", header: "PROXY UNKNOWN\r\n", length: 15},
		{name: "version 1, unknown with addresses", header: "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", length: 43},
		{name: "version 1, with a request behind it", header: "PROXY UNKNOWN\r\nPOST http://", length: 15},
		{name: "version 2", header: string(v2(t, "203.0.113.7:56324", proxyproto.PROXY)), length: 54, source: "203.0.113.7:56324"},
		{name: "version 2 over IPv6", header: string(v2(t, "[2001:db8::7]:56324", proxyproto.PROXY)), length: 78, source: "[2001:db8::7]:56324"},
		{name: "version 2, of the balancer itself", header: string(v2(t, "203.0.113.7:56324", proxyproto.LOCAL)), length: 54},
		{name: "version 2, local without addresses", header: proxySignature + "\x20\x00\x00\x00", length: 16},
		{name: "version 2, local of a protocol that is ignored", header: proxySignature + "\x20\x12\x00\x01\x07", length: 17},
		{name: "version 2, of an unspecified protocol", header: proxySignature + "\x21\x00\x00\x00", length: 16},
		{name: "version 2, of an unspecified protocol with more", header: proxySignature + "\x21\x00\x00\x03\x04\x00\x00", length: 19},
		{name: "half of version 1", header: "PROXY TCP4 203.0."},
		{name: "a byte of version 2", header: "\r"},
		{name: "half of version 2", header: string(v2(t, "203.0.113.7:56324", proxyproto.PROXY)[:20])},
		{name: "nothing"},
		{name: "a request", header: "POST http://example.com/ HTTP/1.1\r\n", length: gone},
		{name: "a TLS handshake", header: "\x16\x03\x01\x02\x00", length: gone},
		{name: "another word", header: "PROXYTCP4 203.0.113.7 192.0.2.1 56324 9090\r\n", length: gone},
		{name: "a signature that goes wrong", header: "\r\n\r\n\x00\r\nQUIX\n", length: gone},
		{name: "version 1 without end", header: "PROXY TCP4 " + strings.Repeat("1", 100), length: gone},
		{name: "version 2 that is too long", header: proxySignature + "\x21\x11\xff\xff", length: gone},
		{name: "a bare LF", header: "PROXY UNKNOWN\n", length: 14, malformed: true},
		{name: "an address too few", header: "PROXY TCP4 203.0.113.7 56324 9090\r\n", length: 35, malformed: true},
		{name: "a word too many", header: "PROXY TCP4 203.0.113.7 192.0.2.1 56324 9090 x\r\n", length: 47, malformed: true},
		{name: "an address of the other family", header: "PROXY TCP4 2001:db8::7 2001:db8::1 56324 9090\r\n", length: 47, malformed: true},
		{name: "a port out of range", header: "PROXY TCP4 203.0.113.7 192.0.2.1 65536 9090\r\n", length: 45, malformed: true},
		{name: "a forged line", header: "PROXY TCP4 203.0.113.7\t192.0.2.1 56324 9090 \r\n", length: 46, malformed: true},
		{name: "version 2 with too few addresses", header: proxySignature + "\x21\x11\x00\x04\x01\x02\x03\x04", length: 20, malformed: true},
		{name: "version 3", header: proxySignature + "\x31\x11\x00\x00", length: 16, malformed: true},
		{name: "version 2 about UDP", header: proxySignature + "\x21\x12\x00\x0c" + "\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02", length: 28, malformed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, reject := ProxyHeaderLen([]byte(tt.header))
			if tt.length == gone {
				if reject == "" {
					t.Fatalf("got a length of %d; want that it is refused", n)
				}
				return
			}
			if n != tt.length || reject != "" {
				t.Fatalf("got length %d, %q; want %d", n, reject, tt.length)
			}
			if n == 0 {
				return
			}
			source, reject := ParseProxyHeader([]byte(tt.header[:n]))
			if (reject != "") != tt.malformed {
				t.Fatalf("got %q; want malformed: %v", reject, tt.malformed)
			}
			if got := source.IsValid(); got != (tt.source != "") || got && source.String() != tt.source {
				t.Errorf("got the source %v; want %q", source, tt.source)
			}
		})
	}
}

// FuzzProxyHeader holds that a header is told to be whole only once it is, wherever it is cut, and that whatever comes,
// nothing of it gets into the log but an address.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 192.0.2.1 56324 9090\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add(v2(f, "203.0.113.7:56324", proxyproto.PROXY))
	f.Add(v2(f, "[2001:db8::7]:56324", proxyproto.PROXY))
	f.Add([]byte(proxySignature + "\x21\x31\x00\xd8" + strings.Repeat("a", 216)))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, reject := ProxyHeaderLen(b)
		if n < 0 || n > len(b) || n > proxyHeaderMax || n > 0 && reject != "" {
			t.Fatalf("got a length of %d, %q of %d bytes", n, reject, len(b))
		}
		if n == 0 {
			return
		}
		for cut := range n {
			if m, reject := ProxyHeaderLen(b[:cut]); m != 0 || reject != "" {
				t.Fatalf("the first %d bytes: got %d, %q; want that more is needed", cut, m, reject)
			}
		}
		source, reject := ParseProxyHeader(bytes.Clone(b[:n]))
		if source.IsValid() == (reject != "") && reject != "" {
			t.Fatalf("got %v and %q", source, reject)
		}
		if source.IsValid() {
			if _, err := netip.ParseAddrPort(source.String()); err != nil {
				t.Fatalf("the source %q: %v", source, err)
			}
		}
	})
}
