package http1

import (
	"bytes"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name string
		want Kind
	}{
		{"Connection", KindConnection}, {"CONNECTION", KindConnection}, {"connection", KindConnection},
		{"Keep-Alive", KindHopByHop}, {"TE", KindHopByHop}, {"te", KindHopByHop}, {"Trailer", KindHopByHop}, {"Upgrade", KindHopByHop},
		{"Proxy-Authorization", KindHopByHop}, {"Proxy-Authenticate", KindHopByHop}, {"proxy-connection", KindHopByHop}, {"PROXY-", KindHopByHop},
		{"X-WhSentry-TLS", KindSentry}, {"x-whsentry-reason", KindSentry}, {"X-WHSENTRY-", KindSentry},
		{"Host", KindHost}, {"hOST", KindHost},
		{"Content-Length", KindContentLength}, {"CONTENT-LENGTH", KindContentLength},
		{"Transfer-Encoding", KindTransferEncoding}, {"transfer-encoding", KindTransferEncoding},
		{"User-Agent", KindUserAgent}, {"Expect", KindExpect},
		{"Trailers", KindOther}, {"T", KindOther}, {"Hosts", KindOther}, {"Proxy", KindOther}, {"X-WhSentry", KindOther},
		{"Content_Length", KindOther}, {"Transfer_Encoding", KindOther}, {"Connections", KindOther}, {"Content-Length-", KindOther},
		{"X-Proxy-A", KindOther}, {"Cookie", KindOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := classify([]byte(tt.name)); got != tt.want {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
}

func TestParseLength(t *testing.T) {
	const largest = 1<<63 - 1
	for _, tt := range []struct {
		raw  string
		want int64
		ok   bool
	}{
		{"0", 0, true}, {"1", 1, true}, {"00012", 12, true},
		{"9223372036854775806", largest, true}, {"9223372036854775807", largest, true}, {"9223372036854775808", largest, true},
		{"92233720368547758070000000000000000000000000", largest, true}, {"18446744073709551617", largest, true},
		{"922337203685477579", 922337203685477579, true},
		{"", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {" 1", 0, false}, {"1 ", 0, false}, {"1,1", 0, false}, {"0x1", 0, false},
		{"1e3", 0, false}, {"1.0", 0, false}, {"1_000", 0, false}, {"\xd9\xa1", 0, false}, {"99999999999999999999x", 0, false},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			if got, ok := parseLength([]byte(tt.raw)); ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %d, %v; want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestNextElement(t *testing.T) {
	for _, tt := range []struct{ list, element, rest string }{
		{"", "", ""}, {"a", "a", ""}, {" a\t", "a", ""}, {"a,b", "a", "b"}, {"a , b", "a", " b"}, {",a", "", "a"}, {"a,", "a", ""}, {" , ", "", " "},
		{"\"a,b\"", "\"a", "b\""},
	} {
		t.Run(tt.list, func(t *testing.T) {
			element, rest := nextElement([]byte(tt.list))
			if string(element) != tt.element || string(rest) != tt.rest {
				t.Errorf("got %q and %q; want %q and %q", element, rest, tt.element, tt.rest)
			}
		})
	}
}

func TestByteClasses(t *testing.T) {
	for c := range 256 {
		b := []byte{byte(c)}
		control := c < ' ' && c != '\t' || c == 0x7f
		if got := IsValue(b); got == control {
			t.Errorf("0x%02x in a value: got %v; want %v", c, got, !control)
		}
		if got := IsToken(b); got && (control || c >= 0x80 || c == ' ' || c == '\t' || c == ':' || c == '"' || c == '(' || c == '/' || c == '@' || c == '\\' || c == '{') {
			t.Errorf("0x%02x in a token: got %v; want false", c, got)
		}
	}
	if IsToken(nil) {
		t.Error("got an empty token taken; want it refused")
	}
}

// A value is looked at eight bytes at a time: each byte must be judged alike wherever it stands and whatever it stands by.
func TestIsValueAnywhere(t *testing.T) {
	for _, filler := range []byte{'\t', ' ', '!', '~', 0x80, 0xa0, 0xff} {
		for at := range 19 {
			for c := range 256 {
				b := bytes.Repeat([]byte{filler}, 19)
				b[at] = byte(c)
				want := c >= ' ' && c != 0x7f || c == '\t'
				if got := IsValue(b); got != want {
					t.Errorf("0x%02x at %d among 0x%02x: got %v; want %v", c, at, filler, got, want)
				}
			}
		}
	}
}
