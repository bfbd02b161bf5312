package e2e

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// forgery is what somebody outside would write to have a line of their own in a log, or a field in an answer.
const forgery = "x\r\n[2026-01-01T00:00:00Z] forged 10.0.0.1:1 GET http://forged/ 200 1ms\nX-Forged: 1\r\n\r\n{\"level\":\"error\",\"forged\":1}\n\x1b[31m\x00\u0085\u2028\u202e\xff\"\\"

// hostileName gives a certificate the forgery for every name that it has.
func hostileName(c *catest.Template) {
	c.Subject = pkix.Name{CommonName: strings.ToValidUTF8(forgery, "?"), Organization: []string{strings.ToValidUTF8(forgery, "?")}}
}

// ascii is the forgery as far as a DNS name in a certificate can hold it.
var ascii = strings.Map(func(r rune) rune {
	if r > '~' {
		return -1
	}
	return r
}, strings.ToValidUTF8(forgery, ""))

// TestForgedReasons lets everything that a destination, a name server or a client says about itself end up in a reason,
// or try to: certificates' names, TLS alerts, DNS answers, status lines, names of certificates and schemes asked for.
// An answer stays one answer, of the proxy's own fields alone, and a log line one line.
func TestForgedReasons(t *testing.T) {
	t.Parallel()
	root, stranger := catest.Root(t, "Root"), catest.Root(t, "", hostileName)
	hostile := stranger.Intermediate(t, "", hostileName)
	answers := func(c tls.Certificate) string { return answeringTLS(t, serving(c), okResponse).to(hooksHost) }
	raw := func(answer string) string {
		return newOrigin(t, func(c *originConn) {
			c.r.ReadByte()
			io.WriteString(c, answer)
			io.Copy(io.Discard, c.r)
		}).addr
	}
	rows := []struct{ name, target, fields, reason string }{
		{"a stranger's certificate", "https://" + answers(stranger.Leaf(t, hooksHost, hostileName)), "", "1007"},
		{"a hostile intermediate", "https://" + answers(hostile.Leaf(t, hooksHost)), "", "1007"},
		{"self-signed", "https://" + answers(catest.SelfSigned(t, hooksHost, hostileName)), "", "1007"},
		{"other names", "https://" + answers(root.Leaf(t, "", catest.Names(ascii, "a\nb", "c\x1bd"), hostileName)), "", "1007"},
		{"no names", "https://" + answers(root.Leaf(t, "", hostileName)), "", "1007"},
		{"expired", "https://" + answers(root.Leaf(t, hooksHost, hostileName, catest.Expired())), "", "1007"},
		{"plain text for TLS", "https://" + raw(forgery), "", "1005"},
		{"an alert for TLS", "https://" + raw("\x15\x03\x03\x00\x02\x02\x0a"), "", "1005"},
		{"an unknown alert", "https://" + raw("\x15\x03\x03\x00\x02\x02\xff"), "", "1005"},
		{"a status line", "http://" + raw("HTTP/1.1 200 \x1b"+forgery), "", "1011"},
		{"no status line", "http://" + raw(forgery+"\r\n\r\n"), "", "1011"},
		{"a field", "http://" + raw("HTTP/1.1 200 OK\r\nX\x00: "+forgery+"\r\n\r\n"), "", "1011"},
		{"a chunk's size", "http://" + raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"+forgery), "", "1011"},
		{"a forged reason", "http://" + raw("HTTP/1.1 200 OK\r\nX-WhSentry-Reason: forged\r\nContent-Length: x\r\n\r\n"), "", "1011"},
		{"a name that is another", "http://alias.hostile/", "", "1001"},
		{"a name refused by its server", "http://refused.hostile/", "", "1001"},
		{"a name without a sound answer", "http://text.hostile/", "", "1001"},
		{"a certificate asked for", "https://" + hooksHost, "X-WhSentry-ClientCert: \xff\"\\\u2028[31m forged\r\n", "1010"},
		{"a scheme", "forged.-+://x", "", "1003"},
	}
	for _, kind := range []string{accesslog.Text, accesslog.JSON} {
		resolver := hostileResolver(t)
		s := startTLS(t, root, tenants(t, root), func(cfg *proxy.Config, g *guard.Config) {
			cfg.AccessLog.Type = kind
			g.DNSServers = []netip.AddrPort{resolver}
		})
		log := s.logAt(zerolog.DebugLevel)
		for _, row := range rows {
			request := "POST " + strings.Replace(row.target, hooksHost, "127.0.0.1", 1) + "/ HTTP/1.1\r\nHost: x\r\nRequest-ID: " + kind + "\r\n" + row.fields + "\r\n"
			r := s.exchange(request)
			if r.reason() != row.reason {
				t.Errorf("%s: got %q with %q; want reason %s", row.name, r.status, r.reason(), row.reason)
			}
			r.checkOwn(t, row.name)
		}
		s.stop(patience)
		lines := strings.Split(strings.TrimSuffix(s.wholeLog(), "\n"), "\n")
		if len(lines) != len(rows) {
			t.Errorf("got %d lines for %d requests:\n%s", len(lines), len(rows), s.wholeLog())
		}
		for _, line := range lines {
			checkLine(t, kind, line)
		}
		checkAppLog(t, log.String())
	}
}

// checkOwn fails the test unless the answer has the fields that the proxy's own answers have, and no other, and no
// control character in its text.
func (r *response) checkOwn(t *testing.T, name string) {
	t.Helper()
	for field := range r.header {
		switch field {
		case "Content-Type", "X-Content-Type-Options", "X-Whsentry-Reason", "X-Whsentry-Reasoncode", "Date", "Content-Length", "Connection",
			"Proxy-Status", "X-Whsentry-Source", "X-Whsentry-Delivered", "X-Whsentry-Retry":
		default:
			t.Errorf("%s: got the field %q in %v", name, field, r.header)
		}
	}
	text := r.header.Get("X-Whsentry-Reason")
	if r.body != text+"\n" || r.bodyErr != nil {
		t.Errorf("%s: got the body %q, %v; want the reason %q", name, r.body, r.bodyErr, text)
	}
	if strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) {
		t.Errorf("%s: got the reason %q", name, text)
	}
}

var textLine = regexp.MustCompile(`^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)\] [!-~]+ 127\.0\.0\.1:\d+ [!-~]+ [!-~]+ \d{3} \d+ms \d{1,4} [!-~]+$`)

// checkLine fails the test unless line is what an access log's is to be: nothing but printable characters in so many
// words, or one JSON object with keys of the proxy's own.
func checkLine(t *testing.T, kind, line string) {
	t.Helper()
	if kind == accesslog.Text {
		if !textLine.MatchString(line) {
			t.Errorf("got the line %q", line)
		}
		return
	}
	decoder := json.NewDecoder(strings.NewReader(line))
	var entry map[string]any
	if err := decoder.Decode(&entry); err != nil || decoder.More() || !utf8.ValidString(line) || strings.ContainsFunc(line, isC0) {
		t.Errorf("got the line %q (%v); want one JSON object in UTF-8", line, err)
	}
	if _, forged := entry["forged"]; forged {
		t.Errorf("got the line %q", line)
	}
	if reason, _ := entry["reason"].(string); strings.ContainsFunc(reason, unicode.IsControl) {
		t.Errorf("got the reason %q; want its control characters escaped", reason)
	}
}

func isC0(r rune) bool { return r < ' ' || r == 0x7f }

// checkAppLog fails the test unless log is JSON objects, one a line, each with a level and a message.
func checkAppLog(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["level"] == nil || entry["message"] == nil || entry["forged"] != nil {
			t.Errorf("got the line %q (%v) in the application log", line, err)
		}
	}
}

// hostileResolver answers with what no resolver should say.
func hostileResolver(t *testing.T) netip.AddrPort {
	t.Helper()
	return serveDNS(t, func(reply *dns.Msg) {
		name := reply.Question[0].Name
		header := func(kind uint16) dns.RR_Header {
			return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 60}
		}
		switch strings.ToLower(name) {
		case "alias.hostile.":
			reply.Answer = []dns.RR{&dns.CNAME{Hdr: header(dns.TypeCNAME), Target: `forged\010\027[31m\255\"\\.hostile.`}}
		case "refused.hostile.":
			reply.Rcode = dns.RcodeRefused
			reply.Extra = []dns.RR{&dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"forged\n\x1b"}}}
		default:
			reply.Answer = []dns.RR{&dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"forged\n\x1b"}}}
		}
	})
}

// TestForgedRequests puts the forgery, and every byte that is no letter, wherever a client can.
func TestForgedRequests(t *testing.T) {
	o := answering(t, okResponse)
	var requests []string
	for c := range 256 {
		if c >= 0xa0 && c%16 != 0 && c != 0xff || 'a' <= c|0x20 && c|0x20 <= 'z' || '1' <= c && c <= '9' {
			continue // one is like the other
		}
		char := string([]byte{byte(c)})
		requests = append(requests,
			"G"+char+"T http://"+o.addr+"/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://"+o.addr+"/"+char+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://"+o.addr+"/?"+char+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://a"+char+"b/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET a"+char+"b://x/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://"+o.addr+"/ HTTP/1"+char+"1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRequest-ID: a"+char+"b\r\n\r\n",
			"CONNECT a"+char+"b:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			"GET http://10.0.0.1/ HTTP/1.1\r\nHost: a"+char+"b\r\nConnection: close\r\n\r\n",
			"GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\nX"+char+"Y: a"+char+"b\r\nConnection: close\r\n\r\n",
		)
	}
	for _, place := range []string{"F http://x/ HTTP/1.1\r\n\r\n", "GET http://F/ HTTP/1.1\r\n\r\n", "GET F HTTP/1.1\r\n\r\n", "CONNECT F HTTP/1.1\r\n\r\n",
		"GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\nRequest-ID: F\r\n\r\n", "GET http://10.0.0.1/ HTTP/1.1\r\nHost: F\r\n\r\n", "F"} {
		requests = append(requests, strings.ReplaceAll(place, "F", forgery))
	}
	for _, kind := range []string{accesslog.Text, accesslog.JSON} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type = kind })
			log := s.logAt(zerolog.DebugLevel)
			for _, request := range requests {
				c := s.dialFor(t)
				c.send(request)
				c.halfClose() // of some there is no end
				if r, err := c.tryReceive("GET"); err == nil && r.reason() != "" {
					r.checkOwn(t, request)
				}
				c.Conn.Close()
			}
			s.stop(patience)
			lines := strings.Split(strings.TrimSuffix(s.wholeLog(), "\n"), "\n")
			if len(lines) != len(requests) {
				t.Errorf("got %d lines for %d requests", len(lines), len(requests))
			}
			for _, line := range lines {
				checkLine(t, kind, line)
			}
			checkAppLog(t, log.String())
		})
	}
}

// TestForgedClientCertificates connects to an https listener with certificates that it does not trust, whose names try
// to forge, and to an intercepting one with such a server name.
func TestForgedClientCertificates(t *testing.T) {
	t.Parallel()
	root, stranger := catest.Root(t, "Root"), catest.Root(t, "", hostileName)
	// A namesake of what is trusted makes crypto/x509 name the authority in its error.
	trusted := catest.Root(t, "", hostileName)
	for _, kind := range []string{accesslog.Text, accesslog.JSON} {
		s := startHTTPS(t, root, func(cfg *proxy.Config, _ *guard.Config) {
			cfg.AccessLog.Type = kind
			cfg.Listeners[0].ClientCAFile = catest.File(t, "clients.pem", trusted.PEM())
		})
		log := s.logAt(zerolog.DebugLevel)
		certs := []tls.Certificate{
			stranger.Leaf(t, "", hostileName), catest.SelfSigned(t, "", hostileName), trusted.Leaf(t, "", hostileName, catest.Expired()),
			trusted.Leaf(t, "", hostileName, catest.Names(ascii), catest.Usage(1)),
		}
		for _, cert := range certs {
			c := s.dial()
			conn := tls.Client(c.Conn, clientConfig(root, "localhost", cert))
			conn.Handshake() // with TLS 1.3, the client learns from the first read that it has failed
			if _, err := http.ReadResponse(newRawConn(t, conn).r, nil); err == nil {
				t.Errorf("got an answer; want the handshake to fail")
			}
		}
		s.stop(patience)
		lines := strings.Split(strings.TrimSuffix(s.wholeLog(), "\n"), "\n")
		if len(lines) != len(certs) {
			t.Errorf("got %d lines for %d clients: %q", len(lines), len(certs), lines)
		}
		for _, line := range lines {
			checkLine(t, kind, line)
		}
		if checkAppLog(t, log.String()); strings.Count(log.String(), "\n") != len(certs) {
			t.Errorf("got the application log %q; want a line for each client", log)
		}
	}
}

// TestURLInTheLog holds each way of logging a URL against every kind of target, answered, refused and malformed.
func TestURLInTheLog(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := answering(t, okResponse)
	secured := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	at, inside := o.addr, secured.to(hooksHost)
	direct := []struct{ request, full, path, host string }{
		{"GET http://" + at + "/a/b?token=1", "http://" + at + "/a/b?token=1", "http://" + at + "/a/b", "http://" + at},
		{"GET http://" + at + "?token=1", "http://" + at + "?token=1", "http://" + at, "http://" + at},
		{"GET http://" + at + "/?", "http://" + at + "/?", "http://" + at + "/", "http://" + at},
		{"GET http://" + at, "http://" + at, "http://" + at, "http://" + at},
		{"GET http://" + at + "/a?b?c=/d", "http://" + at + "/a?b?c=/d", "http://" + at + "/a", "http://" + at},
		{"GET https://" + inside + "/a?token=1", "https://" + inside + "/a?token=1", "https://" + inside + "/a", "https://" + inside},
		{"GET HTTP://" + at + "/a?token=1", "http://" + at + "/a?token=1", "http://" + at + "/a", "http://" + at},
		// refused
		{"GET http://10.0.0.1/a?token=1", "http://10.0.0.1/a?token=1", "http://10.0.0.1/a", "http://10.0.0.1"},
		{"GET https://10.0.0.1/a?token=1", "https://10.0.0.1/a?token=1", "https://10.0.0.1/a", "https://10.0.0.1"},
		{"GET http://127.0.0.1:25/a?token=1", "http://127.0.0.1:25/a?token=1", "http://127.0.0.1:25/a", "http://127.0.0.1:25"},
		{"GET http://no.such.name/a?token=1", "http://no.such.name/a?token=1", "http://no.such.name/a", "http://no.such.name"},
		{"GET http://127.0.0.1:1/a?token=1", "http://127.0.0.1:1/a?token=1", "http://127.0.0.1:1/a", "http://127.0.0.1:1"},
		{"GET ftp://" + at + "/a?token=1", "ftp://" + at + "/a?token=1", "ftp://" + at + "/a", "ftp://" + at},
		// malformed
		{"GET http://" + at + "/a?token=1#token", "http://" + at + "/a?token=1#token", "http://" + at + "/a", "http://" + at},
		{"GET http://" + at + "/a#token", "http://" + at + "/a#token", "http://" + at + "/a", "http://" + at},
		{"GET http://2130706433/a?token=1", "http://2130706433/a?token=1", "http://2130706433/a", "-"},
		{"GET http://me:pass@" + at + "/a?token=1", "http://" + at + "/a?token=1", "http://" + at + "/a", "http://" + at},
		{"GET http://" + at + ":99999/a?token=1", "http://" + at + ":99999/a?token=1", "http://" + at + ":99999/a", "-"},
		{"GET http:///a?token=1", "http:///a?token=1", "http:///a", "-"},
		{"GET /a?token=1", "/a?token=1", "/a", "-"},
		{"GET ?token=1", "?token=1", "-", "-"},
		{"GET //" + at + "/a?token=1", "//" + at + "/a?token=1", "//" + at + "/a", "-"},
		{"GET a?token=1", "a?token=1", "a", "-"},
		{"OPTIONS *", "*", "*", "-"},
		// CONNECT
		{"CONNECT 10.0.0.1:443", "10.0.0.1:443", "10.0.0.1:443", "10.0.0.1:443"},
		{"CONNECT 127.0.0.1:25", "127.0.0.1:25", "127.0.0.1:25", "127.0.0.1:25"},
		{"CONNECT 127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"},
		{"CONNECT 10.0.0.1/a?token=1", "10.0.0.1/a?token=1", "10.0.0.1/a", "-"},
		{"CONNECT http://10.0.0.1/a?token=1", "10.0.0.1", "10.0.0.1", "10.0.0.1"},
		{"CONNECT me:pass@10.0.0.1:443?token=1", "10.0.0.1:443?token=1", "10.0.0.1:443", "-"},
	}
	intercepted := []struct{ request, full, path, host string }{
		{"GET /a/b?token=1", "https://" + inside + "/a/b?token=1", "https://" + inside + "/a/b", "https://" + inside},
		{"GET https://" + inside + "/a?token=1", "https://" + inside + "/a?token=1", "https://" + inside + "/a", "https://" + inside},
		{"OPTIONS *", "https://" + inside, "https://" + inside, "https://" + inside},
		{"GET https://elsewhere.test/a?token=1", "https://" + inside, "https://" + inside, "https://" + inside},
		{"GET http://" + inside + "/a?token=1", "https://" + inside, "https://" + inside, "https://" + inside},
		{"GET /a?token=1#token", "https://" + inside + "/a?token=1#token", "https://" + inside + "/a", "https://" + inside},
		{"CONNECT " + inside, inside, inside, inside},
	}
	for i, mode := range []string{accesslog.URLFull, accesslog.URLPath, accesslog.URLHost} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			change := func(cfg *proxy.Config, _ *guard.Config) { cfg.AccessLog.Type, cfg.AccessLog.URL = accesslog.JSON, mode }
			plain, mitm := startTLS(t, root, nil, change), startMITM(t, root, issuer, change)
			var want []string
			for _, row := range direct {
				c := plain.dialFor(t)
				c.send(row.request + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				c.waitEnd()
				want = append(want, []string{row.full, row.path, row.host}[i])
			}
			plain.checkURLs(t, want, mode)
			want = nil
			for _, row := range intercepted {
				c := mitm.dialFor(t).intercepted(issuer, inside)
				c.send(row.request + " HTTP/1.1\r\nHost: " + inside + "\r\nConnection: close\r\n\r\n")
				c.waitEnd()
				want = append(want, []string{row.full, row.path, row.host}[i])
			}
			for _, authority := range []string{"10.0.0.1:443", "no.such.name:443"} {
				mitm.dialFor(t).open(authority)
				want = append(want, authority)
				mitm.logLines(len(want)) // the answer comes before the line
			}
			mitm.checkURLs(t, want, mode)
		})
	}
}

// checkURLs holds the URLs of the log's lines against want, in order, and looks for what is not to be anywhere in them.
func (s *sentry) checkURLs(t *testing.T, want []string, mode string) {
	t.Helper()
	for i, line := range s.jsonLines(len(want)) {
		if got := line["url"]; got != want[i] {
			t.Errorf("got the URL %q; want %q", got, want[i])
		}
	}
	for _, hidden := range map[string][]string{accesslog.URLFull: {"pass"}, accesslog.URLPath: {"pass", "token"}, accesslog.URLHost: {"pass", "token", "/a"}}[mode] {
		if strings.Contains(s.wholeLog(), hidden) {
			t.Errorf("got %q in the log:\n%s", hidden, s.wholeLog())
		}
	}
}
