package e2e

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestForwarding(t *testing.T) {
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	for i := range 3 {
		c.send(post(o, fmt.Sprintf("/hook/%d?a=%%2F..", i), "payload"))
		if r := c.receive("POST"); r.status != "200 OK" || r.body != "ok" {
			t.Fatalf("got %q %q; want 200 OK, ok", r.status, r.body)
		}
	}
	if n := o.connections(); n != 1 {
		t.Errorf("got %d connections to the destination; want 1", n)
	}
	want := "POST /hook/2?a=%2F.. HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 7\r\nUser-Agent: Webhook Sentry/0.1\r\n\r\npayload"
	if got := o.bytes(); !strings.HasSuffix(got, want) {
		t.Errorf("got %q; want it to end with %q", got, want)
	}
	for _, line := range s.logLines(3) {
		t.Log(line)
	}
}

func TestBlockedAnswerIsByteForByte(t *testing.T) {
	s := start(t, nil)
	c := s.dial()
	c.send("GET http://127.0.0.2/ HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
	want := regexp.MustCompile(`^HTTP/1\.1 403 Forbidden\r\n` +
		`Content-Type: text/plain; charset=utf-8\r\n` +
		`X-Content-Type-Options: nosniff\r\n` +
		`X-Whsentry-Reason: IP 127\.0\.0\.2 is blocked\r\n` +
		`X-Whsentry-Reasoncode: 1000\r\n` +
		`Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n` +
		`Content-Length: 24\r\n` +
		`Proxy-Status: whsentry; error=destination_ip_prohibited; details="IP 127\.0\.0\.2 is blocked"\r\n` +
		`X-Whsentry-Source: policy\r\n` +
		`X-Whsentry-Delivered: no\r\n` +
		`X-Whsentry-Retry: no\r\n` +
		`\r\nIP 127\.0\.0\.2 is blocked\n$`)
	buf := make([]byte, 4096)
	n, err := io.ReadAtLeast(c, buf, len("HTTP/1.1 403 Forbidden"))
	if err != nil || !want.Match(buf[:n]) {
		t.Errorf("got %q", buf[:n])
	}
}
