package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// gated is what a gate came to, in a form that can be compared.
type gated struct {
	length  int
	refused string
	kind    ErrorKind
}

// gate shows raw to a gate as it grows to each of cuts and then to the whole, each time in other memory.
func gate(raw string, limit int, cuts ...int) (*Gate, gated) {
	g := new(Gate)
	g.Reset(limit)
	for _, cut := range append(cuts, len(raw)) {
		n, err := g.Scan([]byte(raw[:cut]))
		var wrong *Error
		if errors.As(err, &wrong) {
			return g, gated{refused: wrong.Text, kind: wrong.Kind}
		}
		if n > 0 {
			return g, gated{length: n}
		}
	}
	return g, gated{}
}

// everyByte is where raw is cut so that it comes byte by byte.
func everyByte(raw string) (cuts []int) {
	for i := range len(raw) {
		cuts = append(cuts, i)
	}
	return cuts
}

// TestGateLines counts the lines of a head, and of no other.
func TestGateLines(t *testing.T) {
	for raw, want := range map[string]int{
		"GET / HTTP/1.1\r\n\r\n": 0, "\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nC: d\r\n\r\n": 1, "GET / HTTP/1.1\r\nA: b\r\nA: b\r\nC": 2,
	} {
		if g, _ := gate(raw, 64, everyByte(raw)...); g.Lines() != want {
			t.Errorf("%q: got %d lines; want %d", raw, g.Lines(), want)
		}
	}
}

// gateTests are what a gate whose limit is 64 bytes makes of them: passed is how much of raw is the head, 0 where there is
// not yet one, and refused a part of the error's text.
var gateTests = []struct {
	name, raw string
	passed    int
	refused   string
}{
	{"nothing", "", 0, ""},
	{"whole", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 24, ""},
	{"no fields", "GET / HTTP/1.0\r\n\r\n", 18, ""},
	{"a body behind it", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /", 38, ""},
	{"another head behind it", "GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", 19, ""},
	{"bare LF behind it", "GET / HTTP/1.1\r\n\r\n\n\n\x00", 18, ""},
	{"empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", 22, ""},
	{"tabs and bytes beyond ASCII", "GET / HTTP/1.1\r\nA:\tb\t\xff\x80\r\n\r\n", 27, ""},
	{"what no parser takes, line by line", "GET / HTTP/1.1\r\nA\r\n : b\r\n\r\n", 27, ""},
	{"cut in the request line", "GET / HTT", 0, ""},
	{"cut in a CRLF", "GET / HTTP/1.1\r", 0, ""},
	{"cut in the fields", "GET / HTTP/1.1\r\nA: b\r\n", 0, ""},
	{"cut in the empty line", "GET / HTTP/1.1\r\nA: b\r\n\r", 0, ""},
	{"empty lines alone", "\r\n\r\n\r", 0, ""},

	{"bare LF first", "\nGET / HTTP/1.1\r\n\r\n", 0, "bare LF"},
	{"bare LF after an empty line", "\r\n\nGET / HTTP/1.1\r\n\r\n", 0, "bare LF"},
	{"bare LF after the request line", "GET / HTTP/1.1\nA: b\r\n\r\n", 0, "bare LF"},
	{"bare LF after a field", "GET / HTTP/1.1\r\nA: b\n\r\n", 0, "bare LF"},
	{"bare LF as the empty line", "GET / HTTP/1.1\r\nA: b\r\n\n", 0, "bare LF"},
	{"bare CR, and no line's end", "GET / HTTP/1.1\r\nA: b\rc", 0, "control byte 0x0d"},
	{"bare CR in a value", "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 0, "a field of its head holds a control byte"},
	{"CR CR LF", "GET / HTTP/1.1\r\nA: b\r\r\n\r\n", 0, "control byte"},
	{"CR CR LF as the empty line", "GET / HTTP/1.1\r\nA: b\r\n\r\r\n", 0, "no colon"},
	{"bare CR as the first byte", "\rGET / HTTP/1.1\r\n\r\n", 0, "not a request line"},
	{"NUL", "GET / HTTP/1.1\r\nA: b\x00", 0, "control byte 0x00"},
	{"DEL", "GET / HTTP/1.1\r\nA: b\x7f", 0, "control byte 0x7f"},
	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0, "control byte 0x16"},
	{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", 0, "not a request line"},
	{"mail", "EHLO there.example\r\n", 0, "no HTTP version"},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, "neither 1.0 nor 1.1"},
	{"HTTP/0.9", "GET /\r\n", 0, "no HTTP version"},

	{"at the limit", "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64-23) + "\r\n\r\n", 64, ""},
	{"over the limit", "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64-22) + "\r\n\r\n", 0, "larger than 64 bytes"},
	{"one byte short of the limit", "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64-20), 0, ""},
	{"at the limit, and no end", "GET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64-19), 0, "larger than 64 bytes"},
	{"at the limit behind empty lines", "\r\n\r\nGET / HTTP/1.1\r\nA: " + strings.Repeat("b", 64-23) + "\r\n\r\n", 68, ""},
	{"empty lines at the limit", strings.Repeat("\r\n", 32) + "GET / HTTP/1.1\r\n\r\n", 82, ""},
	{"empty lines over the limit", strings.Repeat("\r\n", 33), 0, "larger than 64 bytes"},
	{"a request line without end", "GET /" + strings.Repeat("a", 64), 0, "larger than 64 bytes"},
}

func TestGate(t *testing.T) {
	for _, tt := range gateTests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := gate(tt.raw, 64)
			if tt.refused == "" && (got.refused != "" || got.length != tt.passed) {
				t.Errorf("got %+v; want a head of %d bytes", got, tt.passed)
			}
			if tt.refused != "" && (!strings.Contains(got.refused, tt.refused) || got.length != 0) {
				t.Errorf("got %+v; want it refused with %q", got, tt.refused)
			}
			if want := strings.Contains(tt.refused, "larger"); (got.kind == TooLarge) != want {
				t.Errorf("got kind %v; want too large: %v", got.kind, want)
			}
		})
	}
}

// TestGateInPieces holds that it makes no difference to what passes in how many pieces it comes.
func TestGateInPieces(t *testing.T) {
	for _, tt := range gateTests {
		t.Run(tt.name, func(t *testing.T) {
			_, want := gate(tt.raw, 64)
			for i := range len(tt.raw) {
				if _, got := gate(tt.raw, 64, i); !sameGated(got, want) {
					t.Fatalf("cut at %d: got %+v; want %+v", i, got, want)
				}
			}
			if _, got := gate(tt.raw, 64, everyByte(tt.raw)...); !sameGated(got, want) {
				t.Fatalf("byte by byte: got %+v; want %+v", got, want)
			}
		})
	}
}

// sameGated compares what two gates came to. The text of an error says more where more has come, and a head that is both
// malformed and too large may be found to be either.
func sameGated(a, b gated) bool {
	return a.length == b.length && (a.refused == "") == (b.refused == "")
}

func TestGateRequestLine(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"not there", "GET / HTTP/1.1", ""},
		{"alone", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1"},
		{"before what is refused", "\r\nGET / HTTP/1.1\r\nA: \x00", "GET / HTTP/1.1"},
		{"of a head that passed", "\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nGET", "GET / HTTP/1.1"},
		{"of another version", "GET / HTTP/2.0\r\n", "GET / HTTP/2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := gate(tt.raw, 64)
			if got := string(g.RequestLine([]byte(tt.raw))); got != tt.want {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

// TestGateAtStart holds that empty lines are told from the beginning of a request.
func TestGateAtStart(t *testing.T) {
	for raw, want := range map[string]bool{"": true, "\r\n": true, "\r\n\r\n": true, "\r": false, "G": false, "\r\nG": false, "GET / HTTP/1.1\r\n": false} {
		g, _ := gate(raw, 64)
		if got := g.IsAtStart([]byte(raw)); got != want {
			t.Errorf("%q: got %v; want %v", raw, got, want)
		}
	}
}

// TestControls holds that control bytes are found wherever they stand and whatever they stand by.
func TestControls(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			raw := []byte{byte(a), byte(b), byte(a), byte(b), byte(b), byte(a), byte(a), byte(b)}
			var want uint64
			for i, c := range raw {
				if c < ' ' || c == 0x7f {
					want |= 0x80 << (8 * i)
				}
			}
			if got := controls(word(raw)); got != want {
				t.Fatalf("% x: got %016x; want %016x", raw, got, want)
			}
		}
	}
}

// FuzzGate holds that whatever comes, in whatever pieces, what passes is one head: it ends with the first empty line
// behind its request line, and every LF in it follows on a CR, every CR comes before an LF.
func FuzzGate(f *testing.F) {
	for _, tt := range gateTests {
		f.Add([]byte(tt.raw), uint16(5))
	}
	for _, tt := range headTests {
		f.Add([]byte(tt.raw), uint16(1))
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		const limit = 256
		g, got := gate(string(raw), limit)
		for _, cuts := range [][]int{{int(cut) % (len(raw) + 1)}, everyByte(string(raw))} {
			if _, pieces := gate(string(raw), limit, cuts...); !sameGated(pieces, got) {
				t.Fatalf("cut at %v: got %+v; want %+v", cuts, pieces, got)
			}
		}
		if got.length == 0 {
			return
		}
		head := raw[g.Blank():got.length]
		if bytes.Count(raw[:g.Blank()], []byte("\r\n"))*2 != g.Blank() || len(head) > limit || g.Blank() > limit {
			t.Fatalf("got %d bytes of empty lines and a head of %d", g.Blank(), len(head))
		}
		if bytes.Index(head, []byte("\r\n\r\n")) != len(head)-4 {
			t.Fatalf("got %q; want it to end with its first empty line", head)
		}
		lines := bytes.Count(head, []byte("\r\n"))
		if bytes.Count(head, []byte{'\n'}) != lines || bytes.Count(head, []byte{'\r'}) != lines {
			t.Fatalf("got %q; want CRLF alone to end its lines", head)
		}
		for _, c := range head {
			if (c < ' ' || c == 0x7f) && c != '\r' && c != '\n' && c != '\t' {
				t.Fatalf("got 0x%02x in %q; want no control byte", c, head)
			}
		}
		if line := g.RequestLine(raw); !bytes.HasPrefix(head, append(bytes.Clone(line), '\r', '\n')) {
			t.Fatalf("got the request line %q of %q", line, head)
		}
	})
}

// benchHead is a webhook's head as a large sender of them writes it.
var benchHead = []byte(strings.ReplaceAll(`POST http://hooks.shop.example/integrations/github/4711?tenant=acme HTTP/1.1
Host: hooks.shop.example
User-Agent: GitHub-Hookshot/2f4c1a7
Content-Length: 1024
Accept: */*
Accept-Encoding: gzip, deflate
Content-Type: application/json
Proxy-Connection: Keep-Alive
Request-ID: 6f9619ff-8b86-d011-b42d-00c04fc964ff
X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958
X-GitHub-Event: push
X-GitHub-Hook-ID: 292430182
X-GitHub-Hook-Installation-Target-ID: 79929171
X-GitHub-Hook-Installation-Target-Type: repository
X-Hub-Signature-256: sha256=d57c68ca6f92289e6987922ff26938930f6e66a2d161ef06abdf1859230aa23c

`, "\n", "\r\n"))

// steps is what is done with each request's head. None may allocate.
var steps = []struct {
	name  string
	round func() error
}{
	{"gate", func() error {
		var g Gate
		g.Reset(64 << 10)
		if n, err := g.Scan(benchHead); n != len(benchHead) {
			return fmt.Errorf("got %d, %w; want %d", n, err, len(benchHead))
		}
		return nil
	}},
	{"request line", func() error {
		benchRequest.Reset()
		return benchRequest.ScanRequestLine(benchHead[:bytes.IndexByte(benchHead, '\r')])
	}},
	{"fields", func() error {
		benchRequest.Reset()
		return benchRequest.ScanFields(benchHead[bytes.IndexByte(benchHead, '\n')+1:], "request-id")
	}},
}

var benchRequest Request

func BenchmarkHead(b *testing.B) {
	for _, step := range steps {
		b.Run(step.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(benchHead)))
			for b.Loop() {
				if err := step.round(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestAllocHead(t *testing.T) {
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, func() {
				if err := step.round(); err != nil {
					t.Fatal(err)
				}
			}); got != 0 {
				t.Errorf("got %v allocations; want 0", got)
			}
		})
	}
}
