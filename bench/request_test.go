package main

import (
	"strings"
	"testing"
)

func TestRequest(t *testing.T) {
	tests := []struct {
		name   string
		load   load
		target string
		want   string // \n for CRLF
	}{
		{"GET", load{}, "http://a:80/b?c=d", "GET http://a:80/b?c=d HTTP/1.1\nHost: a:80\n\n"},
		{"no path", load{}, "http://a", "GET http://a/ HTTP/1.1\nHost: a\n\n"},
		{"no path but a query", load{}, "http://a?b", "GET http://a/?b HTTP/1.1\nHost: a\n\n"},
		{"https", load{}, "https://[::1]/", "GET https://[::1]/ HTTP/1.1\nHost: [::1]\n\n"},
		{"path as written", load{}, "http://a/%2e/../x", "GET http://a/%2e/../x HTTP/1.1\nHost: a\n\n"},
		{"POST", load{body: []byte("hi")}, "http://a/", "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi"},
		{"empty body", load{body: []byte{}}, "http://a/", "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 0\n\n"},
		{"method and header", load{method: "PUT", header: []string{"X-A: b", "x-c:"}}, "http://a/", "PUT http://a/ HTTP/1.1\nHost: a\nX-A: b\nx-c:\n\n"},
		{"lone", load{lone: true}, "http://a/b", "GET http://a/b HTTP/1.1\nHost: a\nConnection: close\n\n"},
		{"in a tunnel", load{tunnel: "a:80"}, "http://a/%2e/x?y", "GET /%2e/x?y HTTP/1.1\nHost: a\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.load.request(tt.target)
			if want := strings.ReplaceAll(tt.want, "\n", "\r\n"); string(got) != want || err != nil {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

func TestRequestRefuses(t *testing.T) {
	tests := []struct {
		name, target string
		load         load
		want         string
	}{
		{"no scheme", "a/b", load{}, "absolute URL"},
		{"other scheme", "ftp://a/", load{}, "absolute URL"},
		{"no host", "http:///b", load{}, "absolute URL"},
		{"user", "http://u@a/", load{}, "without user"},
		{"fragment", "http://a/#b", load{}, "fragment"},
		{"space", "http://a/b c", load{}, "white space"},
		{"line end", "http://a/\r\nX: y", load{}, "absolute URL"},
		{"header without a colon", "http://a/", load{header: []string{"X"}}, "want Name: value"},
		{"header with a line end", "http://a/", load{header: []string{"X: y\r\nZ: a"}}, "want Name: value"},
		{"header without a name", "http://a/", load{header: []string{": y"}}, "want Name: value"},
		{"framing header", "http://a/", load{header: []string{"Content-Length: 5"}}, "want any other"},
		{"method with a space", "http://a/", load{method: "GET /x"}, "method"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := tt.load.request(tt.target); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}
