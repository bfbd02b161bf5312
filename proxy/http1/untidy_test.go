package http1

import "testing"

// TestTidied holds what is left of heads that are untidy.
func TestTidied(t *testing.T) {
	for _, tt := range []struct {
		name, fields, want string // want: the fields
		length             int64
		chunked            bool
	}{
		{"folds become a space each", "A: b \r\n\t c\t\r\n  d\r\n", "A: b c d\r\n", -1, false},
		{"a fold below nothing", "A:\r\n b\r\nC: d\r\n", "A: b\r\nC: d\r\n", -1, false},
		{"a fold of nothing", "A: b\r\n \r\n\t\r\n c\r\n", "A: b c\r\n", -1, false},
		{"folds with bare LF", "A: b\n c\n d\nE: f\n", "A: b c d\r\nE: f\r\n", -1, false},
		{"what looks like a field in a fold", "A: b\r\n Content-Length: 5\r\n", "A: b Content-Length: 5\r\n", -1, false},
		{"bad lines", "A: b\r\nC\r\nD : e\r\nF: \x01\r\nG: h\r\n", "A: b\r\nG: h\r\n", -1, false},
		{"what is folded to a bad line", "A: b\r\nC\r\n d\r\n e\r\nF: g\r\n", "A: b\r\nF: g\r\n", -1, false},
		{"a field with a bad fold", "A: b\r\nC: d\r\n e\x01\r\n f\r\nG: h\r\n i\r\n", "A: b\r\nG: h i\r\n", -1, false},
		{"a chunked body with a length", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", -1, true},
		{"a length three times", "Content-Length: 5\r\nContent-Length: 5, 5\r\n", "Content-Length: 5\r\nContent-Length: 5, 5\r\n", 5, false},
		{"identity and a length", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", 5, false},
		{"identity alone", "Transfer-Encoding: identity\r\n", "Transfer-Encoding: identity\r\n", -1, false},
		{"identity and chunked", "Transfer-Encoding: identity, chunked\r\n", "Transfer-Encoding: identity, chunked\r\n", -1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, got := scanResponse("HTTP/1.1 200 OK\r\n" + tt.fields + "\r\n")
			if got.refused != "" {
				t.Fatal(got.refused)
			}
			var fields []byte
			for _, f := range r.Fields {
				fields = AppendField(fields, f.Name.Of(r.Raw), f.Value.Of(r.Raw))
			}
			if string(fields) != tt.want || r.ContentLength != tt.length || r.Chunked != tt.chunked {
				t.Errorf("got %q, length %d, chunked %v; want %q, %d, %v", fields, r.ContentLength, r.Chunked, tt.want, tt.length, tt.chunked)
			}
		})
	}
}

// TestReceivedStatus holds that a final status line counts as read once it is whole, whatever comes of the rest.
func TestReceivedStatus(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      int
	}{
		{"whole head", "HTTP/1.1 200 OK\r\n\r\n", 200},
		{"status line alone", "HTTP/1.1 200 OK\r\n", 200},
		{"with a bare LF", "HTTP/1.0 503\n", 503},
		{"behind empty lines", "\r\n\r\nHTTP/1.1 204 No\r\n", 204},
		{"before what is refused", "HTTP/1.1 201 OK\r\nContent-Length: x\r\n\r\n", 201},
		{"a control byte in the phrase", "HTTP/1.1 202 \x00\r\n\r\n", 202},
		{"999", "HTTP/1.1 999 OK\r\n", 999},
		{"not whole", "HTTP/1.1 200 OK", 0},
		{"nothing", "", 0},
		{"interim", "HTTP/1.1 103 Early\r\n\r\n", 0},
		{"switching protocols", "HTTP/1.1 101 Switching\r\n\r\n", 0},
		{"099", "HTTP/1.1 099 OK\r\n", 0},
		{"1000", "HTTP/1.1 1000 OK\r\n", 0},
		{"two digits", "HTTP/1.1 20 OK\r\n", 0},
		{"another version", "HTTP/1.2 200 OK\r\n", 0},
		{"HTTP/2", "HTTP/2 200 OK\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r, _ := scanResponse(tt.raw); r.Received != tt.want {
				t.Errorf("got %d; want %d", r.Received, tt.want)
			}
		})
	}
}

func TestKeepAliveTimeout(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		want         int
	}{
		{"none", "", -1},
		{"as servers send it", "Keep-Alive: timeout=5, max=1000\r\n", 5},
		{"behind another parameter", "keep-alive: max=100,timeout=15\r\n", 15},
		{"in other letters, with white space", "KEEP-ALIVE: Timeout = 7 \r\n", 7},
		{"in quotes", "Keep-Alive: timeout=\"60\"\r\n", 60},
		{"zero", "Keep-Alive: timeout=0\r\n", 0},
		{"below zero", "Keep-Alive: timeout=-5\r\n", 0},
		{"over an int64", "Keep-Alive: timeout=99999999999999999999999\r\n", 1 << 30},
		{"two of them", "Keep-Alive: timeout=9\r\nKeep-Alive: timeout=3, timeout=4\r\n", 3},
		{"in a fold", "Keep-Alive: max=1,\r\n timeout=6\r\n", 6},
		{"a bare number", "Keep-Alive: 5\r\n", -1},
		{"no number", "Keep-Alive: timeout=soon, timeout\r\n", -1},
		{"white space around the equals sign", "Keep-Alive: timeout = 5\r\n", 5},
		{"a sign", "Keep-Alive: timeout=+5\r\n", -1},
		{"a unit", "Keep-Alive: timeout=5s\r\n", -1},
		{"commas", "Keep-Alive: ,,,=,\r\n", -1},
		{"an empty number", "Keep-Alive: timeout=\r\n", -1},
		{"a minus alone", "Keep-Alive: timeout=-\r\n", -1},
		{"of another name", "Keep-Alive: xtimeout=5\r\nX-Keep-Alive: timeout=5\r\n", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, got := scanResponse("HTTP/1.1 200 OK\r\n" + tt.fields + "\r\n")
			if got.refused != "" || r.KeepAliveTimeout != tt.want {
				t.Errorf("got %d, %q; want %d", r.KeepAliveTimeout, got.refused, tt.want)
			}
		})
	}
}

// TestUntidyNames holds that every name is there once, in the order of the constants.
func TestUntidyNames(t *testing.T) {
	const want = "bare_lf folded chunked_twice length_beside_chunked length_repeated chunked_in_http10 identity bad_line blank_lines status no_close_notify trailers"
	if got := names(AnyUntidy); got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	if got := names(NoCloseNotify | BareLF); got != "bare_lf no_close_notify" {
		t.Errorf("got %q of two", got)
	}
	for first := range Untidy(AnyUntidy).Names { // leaving early is no panic
		if first != "bare_lf" {
			t.Errorf("got %q first", first)
		}
		break
	}
}
