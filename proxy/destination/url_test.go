package destination

import (
	"errors"
	"testing"

	"whsentry/proxy/reason"
)

func TestParseURL(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		want URL
	}{
		{"http://Example.com./a?b", URL{Host: "example.com", Port: 80}},
		{"HTTPS://example.com", URL{Host: "example.com", Port: 443, TLS: true}},
		{"https://example.com:80/", URL{Host: "example.com", Port: 80, TLS: true}},
		{"http://192.0.2.1:65535/", URL{Host: "192.0.2.1", Port: 65535}},
		{"http://[2001:DB8:0:0:0:0:0:1]:81/", URL{Host: "2001:db8::1", Port: 81}},
		{"http://[::FFFF:c000:201]/", URL{Host: "::ffff:192.0.2.1", Port: 80}},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			if got, err := ParseURL(tt.raw); err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// TestParseURLRefuses holds that what http1 refuses has the code and the status that a client is told.
func TestParseURLRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		code      reason.Code
	}{
		{"no scheme", "/path", reason.Malformed},
		{"another scheme", "ftp://h/", reason.Scheme},
		{"malformed before scheme", "ftp://a@b/", reason.Malformed},
		{"a fragment", "http://h/#", reason.Malformed},
		{"a short address", "http://127.1/", reason.Malformed},
		{"port 0", "http://h:0/", reason.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseURL(tt.raw)
			var refused *URLError
			if !errors.As(err, &refused) || refused.Code != int(tt.code) || refused.Status != 400 || refused.Text == "" {
				t.Errorf("got %v; want code %d with status 400", err, tt.code)
			}
		})
	}
}
