package reason

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestTable holds the table to the contract: statuses with their sources, errors of RFC 9209, and whether to send again.
func TestTable(t *testing.T) {
	want := strings.Split(strings.TrimSpace(`
1000 | 403 policy | destination_ip_prohibited | no
1001 | 502 destination, 502 proxy | dns_error, dns_timeout | later
1002 | 400 client | http_request_error | no
1003 | 400 client | http_request_error | no
1004 | 502 destination, 502 client | connection_timeout, connection_read_timeout, http_response_timeout | later
1005 | 502 destination | tls_protocol_error, tls_alert_received | later
1006 | 502 destination, 502 proxy | connection_refused, destination_ip_unroutable | later
1007 | 502 destination | tls_certificate_error | later
1008 | 502 destination | http_response_body_size | later
1009 | 500 proxy | proxy_internal_error | later
1010 | 400 client, 403 policy | http_request_denied | no
1011 | 502 destination | http_protocol_error, http_response_incomplete, connection_terminated, http_response_header_section_size | later
1012 | 413 client, 431 client | http_request_error | no
1013 | 403 policy | http_request_denied | no
1014 | 503 proxy | connection_limit_reached | later
1015 | 405 policy, 403 policy | http_request_denied | no
1016 | 407 client, 401 client, 403 client | http_request_denied | no
1017 | 408 client | http_request_error | now
1018 | 503 destination | destination_unavailable | later
1019 | 403 policy | http_request_denied | no
1020 | 429 client | http_request_denied | later`), "\n")
	for c := First; c <= Last; c++ {
		var variants []string
		for _, v := range c.Variants() {
			variants = append(variants, fmt.Sprint(v.Status, " ", v.Source))
		}
		got := fmt.Sprintf("%d | %s | %s | %s", c, strings.Join(variants, ", "), strings.Join(c.row().errors, ", "), Newf(c, "").Retry())
		if got != want[c-First] {
			t.Errorf("got  %s\nwant %s", got, want[c-First])
		}
		if c.Summary() == "" || c.Generic() == "" || c.row().when == "" || c.row().delivered == "" || c.row().again == "" {
			t.Errorf("%d: something of its row is missing", c)
		}
	}
	if got := LargeHeadf("").Status; got != 431 {
		t.Errorf("a large head: got status %d; want 431", got)
	}
}

// What the destination has answered decides whether to send again, whatever the code; a 2xx never is.
func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		code     Code
		written  bool
		received int
		want     string // delivered, then retry
	}{
		{LargeResponse, true, 200, "yes no"}, {LargeResponse, true, 299, "yes no"}, {LargeResponse, true, 300, "yes no"},
		{LargeResponse, true, 404, "yes no"}, {LargeResponse, true, 408, "yes later"}, {LargeResponse, true, 410, "yes no"},
		{LargeResponse, true, 425, "yes later"}, {LargeResponse, true, 429, "yes later"}, {LargeResponse, true, 499, "yes no"},
		{LargeResponse, true, 500, "yes later"}, {LargeResponse, true, 999, "yes later"},
		{BadResponse, true, 0, "maybe later"}, {BadResponse, true, 204, "yes no"}, {Timeout, false, 0, "no later"},
		{Timeout, true, 0, "maybe later"}, {Timeout, true, 200, "yes no"}, {Internal, true, 202, "yes no"},
		{SlowClient, false, 0, "no now"}, {BlockedAddress, false, 0, "no no"}, {None, true, 0, "maybe no"},
	} {
		f := ClientGone()
		if tt.code != None {
			f = Newf(tt.code, "")
		}
		f.Happened(tt.written, tt.received)
		if got := f.Delivered.String() + " " + f.Retry().String(); got != tt.want {
			t.Errorf("%d, written %v, %d: got %s; want %s", tt.code, tt.written, tt.received, got, tt.want)
		}
	}
}

func TestUnreached(t *testing.T) {
	for c := First; c <= Last; c++ {
		want := slices.Contains([]Code{1001, 1004, 1005, 1006, 1007}, c)
		f := Newf(c, "")
		if got := f.Unreached(); got != want {
			t.Errorf("%d: got %v; want %v", c, got, want)
		}
		if f.Happened(true, 0); f.Unreached() {
			t.Errorf("%d, after the request: got true; want false", c)
		}
	}
	own := Newf(Unreachable, "")
	own.Source = SourceProxy
	if own.Unreached() || CallerDeadline(0).Unreached() {
		t.Errorf("what is not the destination's fault counts as its")
	}
}

// The limits are keys, each once.
func TestLimits(t *testing.T) {
	seen := make(map[Limit]bool)
	for _, l := range Limits {
		if seen[l] || l == "" {
			t.Errorf("got %q twice, or empty", l)
		}
		seen[l] = true
	}
	for c := First; c <= Last; c++ {
		if l := Newf(c, "").Limit; l != "" && !seen[l] {
			t.Errorf("%d: got the limit %q, which is not in the list", c, l)
		}
	}
}
