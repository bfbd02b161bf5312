package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
	"whsentry/proxy/accesslog"
)

// appLog is an application log that a test reads.
type appLog struct {
	mu  sync.Mutex // guards the following
	all bytes.Buffer
}

func (l *appLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *appLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// logAt makes the proxy log everything from level on into what is returned.
func (s *sentry) logAt(level zerolog.Level) *appLog {
	s.t.Helper()
	l := new(appLog)
	s.deps.Log = zerolog.New(l).Level(level)
	if err := s.proxy.Reload(s.cfg, s.deps); err != nil {
		s.t.Fatalf("reload: %v", err)
	}
	return l
}

// The secrets that requests and answers carry in these tests; they stand nowhere else.
const (
	passwordSecret = "correct-horse"
	authSecret     = "Bearer-battery-staple"
	proxySecret    = "proxy-hunter2"
	cookieSecret   = "sid-f00dbabe"
	bodySecret     = "card-4111111111111111"
	answerSecret   = "answer-card-5500"
	newCookie      = "newsid-deadbeef"
	tunnelSecret   = "tunnelled-0xc0ffee"
)

var secrets = []string{passwordSecret, authSecret, proxySecret, cookieSecret, bodySecret, answerSecret, newCookie, tunnelSecret}

// confidential is what every request has: credentials of every kind.
var confidential = "Authorization: " + authSecret + "\r\n" +
	"Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+proxySecret)) + "\r\n" +
	"Cookie: sid=" + cookieSecret + "\r\n"

// checkNoSecrets fails the test where text, which came from where, holds a secret, as it is or in base64.
func checkNoSecrets(t *testing.T, where, text string, more ...string) {
	t.Helper()
	for _, secret := range append(more, secrets...) {
		for shift := range 3 {
			// Base64 of the secret at each of the three places that it can have within other text.
			encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
			for _, form := range []string{secret, encoded[4 : len(encoded)-4]} {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("%s: got %q in %q", where, form, text[max(0, at-200):min(len(text), at+len(form)+100)])
				}
			}
		}
	}
}

// confessions are requests that end in every way there is. AT is the destination in their target, HOST its host and
// port; each ends its connection.
func confessions() map[string]string {
	head := "POST AT/hook HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n" + confidential
	body := "Content-Length: " + fmt.Sprint(len(bodySecret)) + "\r\n\r\n" + bodySecret
	return map[string]string{
		"an answer":               head + body,
		"chunks":                  head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Auth: %s\r\n\r\n", len(bodySecret), bodySecret, authSecret),
		"a 100":                   head + "Expect: 100-continue\r\n" + body,
		"a bad answer":            strings.Replace(head, "/hook", "/garbage", 1) + body,
		"a bad answer's field":    strings.Replace(head, "/hook", "/field", 1) + body,
		"a cut answer":            strings.Replace(head, "/hook", "/cut", 1) + body,
		"a large answer":          strings.Replace(head, "/hook", "/large", 1) + body,
		"silence":                 strings.Replace(head, "/hook", "/silence", 1) + body,
		"a bad chunk":             head + "Transfer-Encoding: chunked\r\n\r\n" + bodySecret + "\r\n",
		"a bad chunk's end":       head + "Transfer-Encoding: chunked\r\n\r\n2\r\n" + bodySecret + "\r\n0\r\n\r\n",
		"a bad trailer":           head + "Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization " + authSecret + "\r\n\r\n",
		"a forbidden trailer":     head + "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: " + authSecret + "\r\n\r\n",
		"a slow body":             head + "Content-Length: 1000\r\n\r\n" + bodySecret,
		"a slow head":             head + "Cookie: " + cookieSecret,
		"a large body":            head + "Content-Length: 300000\r\n\r\n" + bodySecret,
		"a large head":            head + "Cookie: " + strings.Repeat(cookieSecret, 400) + "\r\n\r\n",
		"a folded field":          head + " " + authSecret + "\r\n\r\n",
		"a field without colon":   head + "Authorization " + authSecret + "\r\n\r\n",
		"a space before a colon":  head + "Authorization : " + authSecret + "\r\n\r\n",
		"a field with NUL":        head + "Authorization: " + authSecret + "\x00\r\n\r\n",
		"a bare LF":               head + "Authorization: " + authSecret + "\n\r\n",
		"a bare CR":               head + "Authorization: " + authSecret + "\rx\r\n\r\n",
		"a field's bad name":      head + authSecret + "@: x\r\n\r\n",
		"a bad length":            head + "Content-Length: " + authSecret + "\r\n\r\n",
		"a bad coding":            head + "Transfer-Encoding: " + authSecret + "\r\n\r\n",
		"two Hosts":               head + "Host: " + authSecret + "\r\n\r\n",
		"a Host with a password":  strings.Replace(head, "Host: HOST", "Host: me:"+passwordSecret+"@HOST", 1) + body,
		"an unknown certificate":  head + "X-WhSentry-TLS: 1\r\nX-WhSentry-ClientCert: nobody\r\n" + body,
		"no request but a field":  confidential + "\r\n",
		"no request but a body":   "{\"card\": \"" + bodySecret + "\"} HTTP/1.1\r\n\r\n",
		"the rest of a body":      bodySecret + " for 10 EUR\r\n\r\n",
		"one word of a body":      bodySecret + "\r\n\r\n",
		"a body behind a request": head + "Content-Length: 1\r\n\r\n{" + bodySecret + "}",
	}
}

// directConfessions are more of them, which name where they go.
func directConfessions() map[string]string {
	end := " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + confidential + "\r\n"
	return map[string]string{
		"an address":                    "GET http://10.0.0.1/" + end,
		"a port":                        "GET http://127.0.0.1:25/" + end,
		"a name":                        "GET http://no.such.name/" + end,
		"a scheme":                      "GET ftp://127.0.0.1/" + end,
		"nobody":                        "GET http://127.0.0.1:1/" + end,
		"TLS with a plain server":       "GET https://HOST/" + end,
		"a password":                    "GET http://me:" + passwordSecret + "@HOST/" + end,
		"a password and no host":        "GET http://me:" + passwordSecret + "@/" + end,
		"a password with a slash":       "GET http://me:" + passwordSecret + "/x@HOST/" + end,
		"a password with a question":    "GET http://me:" + passwordSecret + "?x@HOST/" + end,
		"a password with a number sign": "GET http://me:" + passwordSecret + "#x@HOST/" + end,
		"a password with an at":         "GET http://me:x@" + passwordSecret + "@HOST/" + end,
		"a password for another scheme": "GET ftp://me:" + passwordSecret + "@HOST/" + end,
		"a password without slashes":    "GET http:me:" + passwordSecret + "@HOST/" + end,
		"a password without a scheme":   "GET //me:" + passwordSecret + "@HOST/" + end,
		"a password alone":              "GET me:" + passwordSecret + "@HOST" + end,
		"a password in a bad version":   "GET http://me:" + passwordSecret + "@HOST/ HTTP/3.0\r\n\r\n",
		"a CONNECT's password":          "CONNECT me:" + passwordSecret + "@HOST" + end,
		"a CONNECT's URL":               "CONNECT http://me:" + passwordSecret + "@HOST/" + end,
		"a CONNECT refused":             "CONNECT 10.0.0.1:443" + end,
		"a CONNECT with a body":         "CONNECT HOST HTTP/1.1\r\nHost: x\r\n" + confidential + "Content-Length: " + fmt.Sprint(len(bodySecret)) + "\r\n\r\n" + bodySecret,
	}
}

// indiscreet is what a destination answers to these: secrets where they belong, and where they make no sense.
func indiscreet(w io.Writer, path string) bool {
	answers := map[string]string{
		"/hook":    "HTTP/1.1 200 OK\r\nSet-Cookie: " + newCookie + "\r\nContent-Length: " + fmt.Sprint(len(answerSecret)) + "\r\n\r\n" + answerSecret,
		"/garbage": answerSecret + " " + newCookie + "\r\n\r\n",
		"/field":   "HTTP/1.1 200 OK\r\nSet-Cookie " + newCookie + "\r\n\r\n" + answerSecret,
		"/cut":     "HTTP/1.1 200 OK\r\nSet-Cookie: " + newCookie + "\r\nContent-Length: 100\r\n\r\n" + answerSecret,
		"/large":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: " + newCookie + "\r\n\r\nFFFFFF\r\n" + strings.Repeat(answerSecret, 20_000),
	}
	answer, known := answers[path]
	if !known {
		time.Sleep(50 * time.Millisecond)
		return true // in silence
	}
	io.WriteString(w, answer)
	return path == "/hook"
}

// confess sends raw and takes whatever comes until the connection ends.
func confess(c *rawConn, raw string) {
	c.t.Helper()
	io.WriteString(c.Conn, raw) // it may be refused before its end
	io.Copy(io.Discard, c.r)
	c.Conn.Close()
}

// TestSecretsStayOutOfLogs sends requests full of secrets every way that there is, to every kind of end, and looks for
// them in both logs, with everything switched on, and in the metrics.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "Root"), catest.Root(t, "Issuer")
	o := newOrigin(t, func(c *originConn) {
		for {
			if req, _, ok := c.request(); !ok || !indiscreet(c, req.URL.Path) {
				return
			}
		}
	})
	secured := newTLSOrigin(t, serving(root.Leaf(t, hooksHost)), func(c *tlsConn) {
		for {
			req, err := http.ReadRequest(c.r)
			if err != nil {
				return
			}
			if io.Copy(io.Discard, req.Body); !indiscreet(c, req.URL.Path) {
				return
			}
		}
	})
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, kind := range []string{accesslog.Text, accesslog.JSON} {
			run(kind, func(t *testing.T) { testSecretsInLogs(t, kind, root, issuer, o, secured) })
		}
	})
}

// testSecretsInLogs does so with access logs of one kind.
func testSecretsInLogs(t *testing.T, kind string, root, issuer *catest.Authority, o *origin, secured *tlsOrigin) {
	change := func(cfg *proxy.Config, _ *guard.Config) {
		cfg.AccessLog.Type = kind
		cfg.MaxRequestBodySize, cfg.MaxResponseBodySize, cfg.MaxHeaderSize = 200_000, 200_000, 4096
		cfg.ClientTimeout, cfg.ReadTimeout = 3*time.Second, time.Second
		cfg.MaxConnectionsPerDestination = 1000
	}
	direct := startTLS(t, root, tenants(t, root), change)
	https := startHTTPS(t, root, func(cfg *proxy.Config, g *guard.Config) {
		change(cfg, g)
		cfg.Listeners[0].ClientCAFile = catest.File(t, "clients.pem", root.PEM())
	})
	mitm := startMITM(t, root, issuer, change)
	ways := []struct {
		name string
		s    *sentry
		at   string // the destination, as a target has it
		host string
		dial func(t *testing.T) *rawConn
	}{
		{"plain", direct, "http://" + o.addr, o.addr, direct.dialFor},
		{"TLS", direct, "https://" + secured.to(hooksHost), secured.to(hooksHost), direct.dialFor},
		{"https listener", https, "http://" + o.addr, o.addr, func(t *testing.T) *rawConn { return https.dialTLS(t, root, root.Leaf(t, "client")) }},
		{"intercepted", mitm, "", secured.to(hooksHost), func(t *testing.T) *rawConn {
			return mitm.dialFor(t).intercepted(issuer, secured.to(hooksHost), confidential)
		}},
	}
	logs := make(map[*sentry]*appLog)
	for _, s := range []*sentry{direct, https, mitm} {
		logs[s] = s.logAt(zerolog.DebugLevel)
	}
	t.Run("ends", func(t *testing.T) {
		for _, w := range ways {
			all := confessions()
			if w.s != mitm {
				maps.Copy(all, directConfessions())
			}
			slow := make(map[string]string) // what only waits, until its time is up
			for name, raw := range all {
				raw = strings.NewReplacer("AT/", w.at+"/", "HOST", w.host).Replace(raw)
				if strings.HasPrefix(name, "a slow ") {
					slow[name] = raw
					continue
				}
				t.Run(w.name+", "+name, func(t *testing.T) {
					t.Parallel()
					confess(w.dial(t), raw)
				})
			}
			t.Run(w.name+", slowly", func(t *testing.T) {
				t.Parallel()
				allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
					for name, raw := range slow {
						run(name, func(t *testing.T) { confess(w.dial(t), raw) })
					}
				})
			})
		}
		for _, s := range []*sentry{https, mitm} {
			t.Run("handshakes", func(t *testing.T) {
				t.Parallel()
				s.confessInHandshakes(t, s == mitm)
			})
		}
		t.Run("a tunnel", func(t *testing.T) {
			t.Parallel()
			c := direct.dialFor(t)
			c.send("CONNECT " + o.addr + " HTTP/1.1\r\nHost: x\r\n" + confidential + "\r\n")
			c.readHead()
			confess(c, "POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "+tunnelSecret+"\r\n\r\n")
		})
	})
	for _, s := range []*sentry{direct, https, mitm} {
		if s != https {
			s.panicOn(t, "POST http://"+o.addr+"/ HTTP/1.1\r\nHost: x\r\n"+confidential+"Content-Length: "+fmt.Sprint(len(bodySecret))+"\r\n\r\n"+bodySecret)
		}
		metrics := s.scrape()
		s.stop(patience)
		lines, log := s.wholeLog(), logs[s].String()
		keys := keySecrets(t)
		checkNoSecrets(t, "metrics", metrics, keys...)
		checkNoSecrets(t, "access log", lines, keys...)
		checkNoSecrets(t, "application log", log, keys...)
		if most := len(confessions()) * 3 / 4; strings.Count(lines, "\n") < most {
			t.Errorf("got the access log %s\nwant lines for %d requests at least", lines, most)
		}
		if got := strings.Contains(log, "TLS handshake with a client failed"); got != (s != direct) {
			t.Errorf("got the application log %s\nwant failed handshakes in it, where there is TLS with clients", log)
		}
		if got := strings.Contains(log, "a bug ended a request"); got != (s != https) {
			t.Errorf("got the application log %s\nwant the bug in it, where there was one", log)
		}
	}
}

// confessInHandshakes fails TLS handshakes with the proxy, in which a client's secrets come unasked.
func (s *sentry) confessInHandshakes(t *testing.T, connect bool) {
	t.Helper()
	for _, raw := range []string{"Authorization: " + authSecret + "\r\n\r\n", "\x16\x03\x01\x00\x20" + authSecret + bodySecret} {
		c := s.dialFor(t)
		if connect {
			c.open(hooksHost + ":443")
		}
		confess(c, raw)
	}
}

// panicOn sends a request to a proxy with a bug.
func (s *sentry) panicOn(t *testing.T, raw string) {
	t.Helper()
	bad := s.deps
	bad.Dialer = new(guard.Dialer) // which has no guard
	if err := s.proxy.Reload(s.cfg, bad); err != nil {
		t.Fatal(err)
	}
	confess(s.dialFor(t), raw)
}

// keySecrets returns a line from within each private key that the test has written into a file.
func keySecrets(t *testing.T) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(t.TempDir()), "*", "key.pem"))
	if err != nil || len(files) < 3 {
		t.Fatalf("got the private keys %v, %v; want some", files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(string(b), "\n")[1])
	}
	return lines
}
