package proxy

import (
	"errors"
	"strings"
	"testing"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

func TestParseTarget(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("a", 61)
	for _, tt := range []struct{ name, raw, key, path string }{
		{"plain", "http://example.com/a?b", "example.com:80", "/a?b"},
		{"https", "https://example.com/", "example.com:443", "/"},
		{"scheme in capitals", "HTTP://example.com/", "example.com:80", "/"},
		{"host in capitals", "hTTps://ExAmple.COM/A", "example.com:443", "/A"},
		{"port", "http://example.com:8080/", "example.com:8080", "/"},
		{"https with port 80", "https://example.com:80/", "example.com:80", "/"},
		{"port with zeros in front", "http://example.com:00080/", "example.com:80", "/"},
		{"empty port", "http://example.com:/", "example.com:80", "/"},
		{"smallest port", "http://h:1/", "h:1", "/"},
		{"largest port", "http://h:65535/", "h:65535", "/"},
		{"no path", "http://example.com", "example.com:80", ""},
		{"query alone", "http://example.com?a@b", "example.com:80", "?a@b"},
		{"@ and : in the path", "http://example.com/a:b@c", "example.com:80", "/a:b@c"},
		{"URI within the path", "http://example.com/http://user@inside/", "example.com:80", "/http://user@inside/"},
		{"backslash in the path", "http://example.com/\\evil", "example.com:80", "/\\evil"},
		{"trailing dot", "http://Example.com./", "example.com:80", "/"},
		{"underscore and hyphens", "http://_a-b.-c-.example/", "_a-b.-c-.example:80", "/"},
		{"one label", "http://localhost/", "localhost:80", "/"},
		{"digits in front", "http://1and1.4u.com/", "1and1.4u.com:80", "/"},
		{"all digits but the last label", "http://1.2.3.4.example/", "1.2.3.4.example:80", "/"},
		{"hexadecimal-looking name", "http://0xyz/", "0xyz:80", "/"},
		{"punycode", "http://xn--bcher-kva.example/", "xn--bcher-kva.example:80", "/"},
		{"longest label and name", "http://" + name253 + "/", name253 + ":80", "/"},
		{"longest name and a dot", "http://" + name253 + "./", name253 + ":80", "/"},
		{"IPv4", "http://192.0.2.1/", "192.0.2.1:80", "/"},
		{"IPv6", "http://[2001:DB8:0:0:0:0:0:1]:81/", "2001:db8::1:81", "/"},
		{"IPv6 with IPv4 inside", "http://[::ffff:192.0.2.1]/", "::ffff:192.0.2.1:80", "/"},
		{"IPv4-mapped in hexadecimal", "http://[::FFFF:c000:201]/", "::ffff:192.0.2.1:80", "/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, f := http1.ParseTarget([]byte(tt.raw))
			if f != nil {
				t.Fatalf("got %v; want it taken", f)
			}
			var a address
			a.set(&got.Authority, got.HTTPS)
			if string(a.key) != tt.key || string(got.Path) != tt.path {
				t.Errorf("got %s and %q; want %s and %q", a.key, got.Path, tt.key, tt.path)
			}
			d, err := ParseURL(tt.raw)
			if err != nil || !strings.HasPrefix(tt.key, d.Host+":") || d.TLS != got.HTTPS {
				t.Errorf("ParseURL: got %+v, %v; want %s", d, err, tt.key)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	label64 := strings.Repeat("a", 64)
	name254 := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 62)
	for _, tt := range []struct {
		name, raw string
		code      reason.Code
		text      string
	}{
		{"origin form", "/path", reason.Malformed, "not an absolute URI"},
		{"asterisk form", "*", reason.Malformed, "not an absolute URI"},
		{"network path", "//host/path", reason.Malformed, "not an absolute URI"},
		{"host alone", "127.0.0.1/", reason.Malformed, "not an absolute URI"},
		{"scheme that begins with a digit", "1http://h/", reason.Malformed, "not an absolute URI"},
		{"no scheme", "://h/", reason.Malformed, "not an absolute URI"},
		{"percent in the scheme", "ht%74p://h/", reason.Malformed, "not an absolute URI"},
		{"backslashes for slashes", "http:\\\\h\\", reason.Malformed, "names no host"},
		{"one slash", "http:/h/", reason.Malformed, "names no host"},
		{"no slash", "http:h", reason.Malformed, "names no host"},
		{"scheme alone", "http:", reason.Malformed, "names no host"},
		{"three slashes", "http:///h/", reason.Malformed, "names no host"},
		{"empty host with a port", "http://:80/", reason.Malformed, "names no host"},
		{"empty host with a query", "http://?a", reason.Malformed, "names no host"},

		{"ftp", "ftp://h/", reason.Scheme, `scheme "ftp"`},
		{"file", "file:///etc/passwd", reason.Scheme, `scheme "file"`},
		{"gopher", "gopher://h:70/_", reason.Scheme, `scheme "gopher"`},
		{"ws", "ws://h/", reason.Scheme, `scheme "ws"`},
		{"httpx", "httpx://h/", reason.Scheme, `scheme "httpx"`},
		{"http+unix", "http+unix://h/", reason.Scheme, `scheme "http+unix"`},
		{"javascript", "javascript:alert(1)", reason.Scheme, `scheme "javascript"`},
		{"malformed before scheme", "ftp://a@b/", reason.Malformed, "user information"},

		{"fragment", "http://h/a#b", reason.Malformed, "fragment"},
		{"fragment in the authority", "http://h#@evil/", reason.Malformed, "fragment"},
		{"empty fragment", "http://h/#", reason.Malformed, "fragment"},
		{"user", "http://user@h/", reason.Malformed, "user information"},
		{"user and password", "http://user:pass@h/", reason.Malformed, "user information"},
		{"empty user", "http://@h/", reason.Malformed, "user information"},
		{"backslash before an @", "http://good\\@evil/", reason.Malformed, "user information"},
		{"port before an @", "http://good:80@evil/", reason.Malformed, "user information"},

		{"port 0", "http://h:0/", reason.Malformed, "1 to 65535"},
		{"port over 65535", "http://h:65536/", reason.Malformed, "1 to 65535"},
		{"port far over 65535", "http://h:18446744073709551696/", reason.Malformed, "1 to 65535"},
		{"negative port", "http://h:-80/", reason.Malformed, "1 to 65535"},
		{"port with a sign", "http://h:+80/", reason.Malformed, "1 to 65535"},
		{"port in hexadecimal", "http://h:0x50/", reason.Malformed, "1 to 65535"},
		{"port by name", "http://h:http/", reason.Malformed, "1 to 65535"},
		{"two ports", "http://h:80:81/", reason.Malformed, "1 to 65535"},
		{"space in a port", "http://h:8 0/", reason.Malformed, "1 to 65535"},
		{"port in Arabic digits", "http://h:\xd9\xa8\xd9\xa0/", reason.Malformed, "1 to 65535"},

		{"decimal address", "http://2130706433/", reason.Malformed, "ends in a number"},
		{"hexadecimal address", "http://0x7f000001/", reason.Malformed, "ends in a number"},
		{"hexadecimal address in capitals", "http://0X7F000001/", reason.Malformed, "ends in a number"},
		{"octal address", "http://017700000001/", reason.Malformed, "ends in a number"},
		{"hexadecimal byte", "http://0x7f.1/", reason.Malformed, "ends in a number"},
		{"octal byte", "http://0177.0.0.1/", reason.Malformed, "ends in a number"},
		{"byte with a zero in front", "http://127.0.0.01/", reason.Malformed, "ends in a number"},
		{"two bytes", "http://127.1/", reason.Malformed, "ends in a number"},
		{"three bytes", "http://127.0.1/", reason.Malformed, "ends in a number"},
		{"five bytes", "http://127.0.0.1.1/", reason.Malformed, "ends in a number"},
		{"byte over 255", "http://127.0.0.256/", reason.Malformed, "ends in a number"},
		{"address and a dot", "http://127.0.0.1./", reason.Malformed, "ends in a number"},
		{"last label hexadecimal", "http://a.0x7f/", reason.Malformed, "ends in a number"},
		{"last label 0x", "http://a.0x/", reason.Malformed, "ends in a number"},
		{"last label a number", "http://example.1/", reason.Malformed, "ends in a number"},
		{"zero", "http://0/", reason.Malformed, "ends in a number"},

		{"two dots", "http://a..b/", reason.Malformed, "empty label"},
		{"dot in front", "http://.a/", reason.Malformed, "empty label"},
		{"dot alone", "http://./", reason.Malformed, "empty label"},
		{"two dots at the end", "http://a../", reason.Malformed, "empty label"},
		{"label of 64", "http://" + label64 + "/", reason.Malformed, "63 bytes"},
		{"name of 254", "http://" + name254 + "/", reason.Malformed, "253 bytes"},

		{"percent in the host", "http://127%2e0%2e0%2e1/", reason.Malformed, "not a plain DNS name"},
		{"non-ASCII digits", "http://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.\xe2\x93\xaa.\xe2\x93\xaa.\xe2\x91\xa0/", reason.Malformed, "not a plain DNS name"},
		{"fullwidth digits", "http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/", reason.Malformed, "not a plain DNS name"},
		{"ideographic full stop", "http://127\xe3\x80\x820\xe3\x80\x820\xe3\x80\x821/", reason.Malformed, "not a plain DNS name"},
		{"soft hyphen", "http://local\xc2\xadhost/", reason.Malformed, "not a plain DNS name"},
		{"umlaut", "http://b\xc3\xbccher.example/", reason.Malformed, "not a plain DNS name"},
		{"latin-1", "http://b\xfccher.example/", reason.Malformed, "not a plain DNS name"},
		{"control byte", "http://h\x01/", reason.Malformed, "not a plain DNS name"},
		{"NUL", "http://127.0.0.1\x00.example/", reason.Malformed, "not a plain DNS name"},
		{"space", "http://a b/", reason.Malformed, "not a plain DNS name"},
		{"tab", "http://127.0.0.1\t/", reason.Malformed, "not a plain DNS name"},
		{"new line", "http://a\r\nb/", reason.Malformed, "not a plain DNS name"},
		{"comma", "http://a,127.0.0.1/", reason.Malformed, "not a plain DNS name"},
		{"semicolon", "http://a;b/", reason.Malformed, "not a plain DNS name"},
		{"star", "http://*.example/", reason.Malformed, "not a plain DNS name"},
		{"backslash", "http://a\\b/", reason.Malformed, "not a plain DNS name"},
		{"quotes and brackets", "http://<a>\"{}|^`/", reason.Malformed, "not a plain DNS name"},
		{"dollar", "http://$h/", reason.Malformed, "not a plain DNS name"},
		{"control byte in the path", "http://h/\x01", reason.Malformed, "control byte"},
		{"space in the path", "http://h/a b", reason.Malformed, "white space"},

		{"zone", "http://[::1%25lo]/", reason.Malformed, "malformed IPv6"},
		{"bare zone", "http://[fe80::1%lo]/", reason.Malformed, "malformed IPv6"},
		{"IPv4 in brackets", "http://[127.0.0.1]/", reason.Malformed, "malformed IPv6"},
		{"name in brackets", "http://[localhost]/", reason.Malformed, "malformed IPv6"},
		{"empty brackets", "http://[]/", reason.Malformed, "malformed IPv6"},
		{"future address", "http://[v1.a]/", reason.Malformed, "malformed IPv6"},
		{"two double colons", "http://[::1::]/", reason.Malformed, "malformed IPv6"},
		{"group of five digits", "http://[::00001]/", reason.Malformed, "malformed IPv6"},
		{"octal inside IPv6", "http://[::ffff:0177.0.0.1]/", reason.Malformed, "malformed IPv6"},
		{"nested brackets", "http://[[::1]]/", reason.Malformed, "malformed"},
		{"no closing bracket", "http://[::1/", reason.Malformed, "closing bracket"},
		{"no opening bracket", "http://::1]/", reason.Malformed, "1 to 65535"},
		{"IPv6 without brackets", "http://::1/", reason.Malformed, "1 to 65535"},
		{"text behind the bracket", "http://[::1]a/", reason.Malformed, "malformed port"},
		{"text behind the bracket and a port", "http://[::1]a:80/", reason.Malformed, "malformed port"},
		{"address behind the bracket", "http://[::1]127.0.0.1/", reason.Malformed, "malformed port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := http1.ParseTarget([]byte(tt.raw))
			f := reason.OfMessage(err)
			if f == nil {
				t.Fatal("got it taken; want it refused")
			}
			if f.Code != tt.code || f.Status != 400 || !strings.Contains(f.Text, tt.text) || f.Fatal {
				t.Errorf("got %d, status %d, %q, fatal %v; want %d, 400, %q, false", f.Code, f.Status, f.Text, f.Fatal, tt.code, tt.text)
			}
			var target *TargetError
			if _, err := ParseURL(tt.raw); !errors.As(err, &target) || target.Code != int(tt.code) {
				t.Errorf("ParseURL: got %v; want code %d", err, tt.code)
			}
		})
	}
}

func TestConnectAuthority(t *testing.T) {
	for _, tt := range []struct{ name, raw, key, refused string }{
		{"name", "Example.com:443", "example.com:443", ""},
		{"port 80", "example.com:80", "example.com:80", ""},
		{"IPv4", "192.0.2.1:443", "192.0.2.1:443", ""},
		{"IPv6", "[2001:db8::1]:443", "2001:db8::1:443", ""},
		{"trailing dot", "a.:1", "a:1", ""},
		{"no port", "example.com", "", "no port"},
		{"empty port", "example.com:", "", "no port"},
		{"no host", ":443", "", "names no host"},
		{"nothing", "", "", "names no host"},
		{"port 0", "h:0", "", "1 to 65535"},
		{"port 65536", "h:65536", "", "1 to 65535"},
		{"user", "a@h:443", "", "user information"},
		{"URI", "https://h:443", "", "1 to 65535"},
		{"path", "h:443/", "", "1 to 65535"},
		{"query", "h:443?a", "", "1 to 65535"},
		{"fragment", "h:443#a", "", "1 to 65535"},
		{"path before the port", "h/:443", "", "not a plain DNS name"},
		{"decimal address", "2130706433:443", "", "ends in a number"},
		{"short address", "127.1:443", "", "ends in a number"},
		{"zone", "[::1%25lo]:443", "", "malformed IPv6"},
		{"IPv6 without brackets", "::1:443", "", "1 to 65535"},
		{"comma", "a,b:443", "", "not a plain DNS name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := http1.ParseConnectTarget([]byte(tt.raw))
			f := reason.OfMessage(err)
			if tt.refused != "" {
				if f == nil || f.Code != reason.Malformed || !strings.Contains(f.Text, tt.refused) {
					t.Errorf("got %v; want it refused with %q", f, tt.refused)
				}
				return
			}
			var a address
			a.set(&got, true)
			if f != nil || string(a.key) != tt.key {
				t.Errorf("got %s, %v; want %s", a.key, f, tt.key)
			}
		})
	}
}

func TestCheckHost(t *testing.T) {
	for _, tt := range []struct{ name, raw, refused string }{
		{"that of the URI", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", ""},
		{"another", "GET / HTTP/1.1\r\nHost: other:8080\r\n\r\n", ""},
		{"an address", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ""},
		{"none", "GET / HTTP/1.1\r\n\r\n", "no Host"},
		{"empty", "GET / HTTP/1.1\r\nHost: \r\n\r\n", "no Host"},
		{"none in 1.0", "GET / HTTP/1.0\r\n\r\n", ""},
		{"empty in 1.0", "GET / HTTP/1.0\r\nHost:\r\n\r\n", ""},
		{"malformed in 1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "plain DNS name"},
		{"with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "plain DNS name"},
		{"a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "plain DNS name"},
		{"a URI", "GET / HTTP/1.1\r\nHost: http://a/\r\n\r\n", "1 to 65535"},
		{"with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "plain DNS name"},
		{"with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "user information"},
		{"a port alone", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "names no host"},
		{"port 0", "GET / HTTP/1.1\r\nHost: a:0\r\n\r\n", "1 to 65535"},
		{"two ports", "GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", "1 to 65535"},
		{"beyond ASCII", "GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", "plain DNS name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, got := scanWhole(tt.raw)
			if got.refused != "" {
				t.Fatal(got.refused)
			}
			f := reason.OfMessage(h.CheckHost())
			if (f == nil) != (tt.refused == "") || f != nil && (!strings.Contains(f.Text, tt.refused) || f.Code != reason.Malformed) {
				t.Errorf("got %v; want it refused with %q", f, tt.refused)
			}
		})
	}
}
