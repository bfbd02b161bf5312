package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestWireReadsMessages(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, text string
		size       int64 // of the body
		close      bool
		reason     string
		left       string // behind the message
	}{
		{"content-length", ok + "content-LENGTH: 5\r\n\r\nhelloHTTP", 5, false, "", "HTTP"},
		{"no body", ok + "Content-Length: 0\r\n\r\nx", 0, false, "", "x"},
		{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nx", 15, false, "", "x"},
		{"chunked with trailers", ok + "Transfer-Encoding: Chunked\r\n\r\n1 \r\nh\r\n0\r\nA: b\r\nC: d\r\n\r\nx", 1, false, "", "x"},
		{"to the end", ok + "\r\nhello", 5, true, "", ""},
		{"close", ok + "Connection: close\r\nContent-Length: 1\r\n\r\nhx", 1, true, "", "x"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nh", 1, true, "", ""},
		{"HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nh", 1, false, "", ""},
		{"reason", ok + "x-whsentry-reason:  no \r\nContent-Length: 0\r\n\r\n", 0, false, "no", ""},
		{"same length twice", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nh", 1, false, "", ""},
		{"body longer than the buffer", ok + "Content-Length: 5000\r\n\r\n" + strings.Repeat("x", 5001), 5000, false, "", "x"},
		{"head longer than the buffer", ok + "A: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 1\r\n\r\nhx", 1, false, "", "x"},
	}
	for _, tt := range tests {
		for reader, wrap := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			t.Run(tt.name+" "+reader, func(t *testing.T) {
				source := wrap(strings.NewReader(tt.text))
				w := newWire(source, 64)
				h, err := w.head()
				if err != nil {
					t.Fatal(err)
				}
				if status, err := h.status(); status != 200 || err != nil {
					t.Errorf("got status %d, %v; want 200", status, err)
				}
				size, err := w.skipBody(&h, true)
				if size != tt.size || err != nil || h.close != tt.close || h.reason != tt.reason {
					t.Errorf("got %d bytes, close %v, reason %q, %v; want %d, %v, %q", size, h.close, h.reason, err, tt.size, tt.close, tt.reason)
				}
				rest, _ := io.ReadAll(source)
				if left := string(w.buf[w.start:w.end]) + string(rest); left != tt.left {
					t.Errorf("got %q behind the message; want %q", left, tt.left)
				}
			})
		}
	}
}

func TestWireRefuses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, text string
		want       string // within the error
	}{
		{"nothing", "", "EOF"},
		{"cut head", ok + "A: b\r\n", "unexpected EOF"},
		{"head too large", ok + "A: " + strings.Repeat("x", maxHead), "over 65536 bytes"},
		{"cut body", ok + "Content-Length: 5\r\n\r\nhell", "unexpected EOF"},
		{"cut chunk", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhell", "unexpected EOF"},
		{"no last chunk", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n", "unexpected EOF"},
		{"cut trailers", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", "unexpected EOF"},
		{"chunk longer than its size", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n", "longer than its size"},
		{"chunk size no number", ok + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "no hexadecimal number"},
		{"chunk size too large", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", "no hexadecimal number"},
		{"other coding", ok + "Transfer-Encoding: gzip\r\n\r\n", "want chunked"},
		{"length no number", ok + "Content-Length: -1\r\n\r\n", "is no length"},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nhh", "one of two"},
		{"another protocol", "ICY 200 OK\r\n\r\n", "want HTTP/1.1 and a status"},
		{"no status", "HTTP/1.1\r\n\r\n", "want HTTP/1.1 and a status"},
		{"status too low", "HTTP/1.1 099 x\r\n\r\n", "from 100 to 599"},
		{"status too long", "HTTP/1.1 2000\r\n\r\n", "want HTTP/1.1 and a status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(strings.NewReader(tt.text), 64)
			h, err := w.head()
			if err == nil {
				_, err = h.status()
			}
			if err == nil {
				_, err = w.skipBody(&h, true)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want an error with %q", err, tt.want)
			}
			if tt.text != "" && errors.Is(err, io.EOF) {
				t.Errorf("got io.EOF; want it where nothing came, only")
			}
		})
	}
}

func FuzzWire(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nA: b\r\n\r\n")
	f.Add("HTTP/1.0 200 OK\r\n\r\nrest")
	f.Fuzz(func(t *testing.T, text string) {
		w := newWire(strings.NewReader(text), 16)
		for {
			h, err := w.head()
			if err != nil {
				return
			}
			size, err := w.skipBody(&h, false)
			if err != nil {
				return
			}
			if size > int64(len(text)) {
				t.Fatalf("got a body of %d bytes; want at most the %d that there are", size, len(text))
			}
		}
	})
}
