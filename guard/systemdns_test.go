package guard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	for _, row := range []struct{ name, file, want string }{
		{"empty", "", "[127.0.0.1:53] 2s 2"},
		{"one", "nameserver 192.0.2.53\n", "[192.0.2.53:53] 2s 2"},
		{"no line end, CRLF, comments", "# a\r\n; b\r\nnameserver 192.0.2.53 # c\r\nnameserver\t2001:db8::53", "[192.0.2.53:53 [2001:db8::53]:53] 2s 2"},
		{"three at most", "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", "[1.1.1.1:53 1.1.1.2:53 1.1.1.3:53] 2s 2"},
		{"zone", "nameserver fe80::1%eth0\n", "[[fe80::1%eth0]:53] 2s 2"},
		{"nonsense", "nameserver\nnameserver one\nfoo\n\x00\nsearch a b c\n", "[127.0.0.1:53] 2s 2"},
		{"options", "options ndots:5 timeout:3 attempts:1 rotate\nnameserver 1.1.1.1\n", "[1.1.1.1:53] 3s 1"},
		{"options out of bounds", "options timeout:30 attempts:99\n", "[127.0.0.1:53] 5s 5"},
		{"options malformed", "options timeout:0 attempts:-1 timeout:x attempts\n", "[127.0.0.1:53] 2s 2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := parseResolvConf([]byte(row.file))
			if got := fmt.Sprint(a.servers, a.timeout, a.attempts); got != row.want {
				t.Errorf("got %s; want %s", got, row.want)
			}
		})
	}
}

func TestParseHosts(t *testing.T) {
	h := parseHosts([]byte(strings.Join([]string{
		"# comment",
		"127.0.0.1 localhost loop.Example. # loopback",
		"::1\tlocalhost",
		"127.0.0.1 localhost",
		"10.0.0.1 db db.internal",
		"10.0.0.2 db",
		"fe80::1%lo zoned.example",
		"300.1.1.1 bad.example",
		"10.0.0.3",
		"10.0.0.4 1.2.3.4 ex*mple",
	}, "\r\n")))
	want := map[string]string{
		"localhost":    "[::1 127.0.0.1]",
		"loop.example": "[127.0.0.1]",
		"db":           "[10.0.0.1 10.0.0.2]",
		"db.internal":  "[10.0.0.1]",
	}
	if len(h) != len(want) {
		t.Errorf("got %v; want %v", h, want)
	}
	for name, as := range want {
		if got := fmt.Sprint(h[name]); got != as {
			t.Errorf("%s: got %s; want %s", name, got, as)
		}
	}
}

// TestHostsCountAndAreReadAgain checks that /etc/hosts beats DNS, and that a change to it is seen.
func TestHostsCountAndAreReadAgain(t *testing.T) {
	s := startDNS(t, zone("x.example. 60 IN A 8.8.8.8"))
	cfg, env, clock := DefaultConfig(), testEnvironment(t), &testClock{at: time.Now()}
	cfg.DNSServers = []netip.AddrPort{s.addr}
	env.now = clock.now
	writeFile(t, env.hostsPath, "10.0.0.1 x.example\n")
	g, err := newGuard(cfg, Hooks{}, env)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, file, want string }{
		{"at first", "", "10.0.0.1"},
		{"changed", "10.0.0.2 x.example\n10.0.0.3 x.example\n", "10.0.0.2 10.0.0.3"},
		{"emptied", "# nothing\n", "8.8.8.8"},
		{"back, of the same size", "::1 x.exam\n", "8.8.8.8"},
		{"there again", "::1 x.example\n", "::1"},
	} {
		if step.file != "" {
			writeFile(t, env.hostsPath, step.file)
		}
		clock.add(snapshotFresh + time.Millisecond)
		if got := lookupText(t, g, "x.example"); got != step.want {
			t.Errorf("%s: got %s; want %s", step.name, got, step.want)
		}
	}
	if s.count("udp A ") != 1 && s.count("udp A ") != 2 {
		t.Errorf("queries %v; want those alone that /etc/hosts left", s.queries)
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	cfg, env, clock := DefaultConfig(), testEnvironment(t), &testClock{at: time.Now()}
	env.now = clock.now
	g, err := newGuard(cfg, Hooks{}, env)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.1:53", "192.0.2.2:53"} {
		writeFile(t, env.resolvPath, "nameserver "+strings.TrimSuffix(want, ":53")+"\n")
		clock.add(snapshotFresh + time.Millisecond)
		if got := g.resolver.system.get().value.servers; len(got) != 1 || got[0].String() != want {
			t.Errorf("got %v; want %s", got, want)
		}
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\noptions timeout:1 attempts:3\n"))
	f.Add([]byte("nameserver fe80::1%eth0\n; options\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := parseResolvConf(data)
		if n := len(a.servers); n < 1 || n > maxSystemServers {
			t.Errorf("%d servers", n)
		}
		if a.timeout <= 0 || a.timeout > maxTryTimeout || a.attempts < 1 || a.attempts > maxAttempts {
			t.Errorf("timeout %s, attempts %d", a.timeout, a.attempts)
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n::1 localhost ip6-localhost # x\n"))
	f.Add([]byte("::ffff:10.0.0.1 a.b. A.B\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, as := range parseHosts(data) {
			if canonical, ok := canonicalName(name); !ok || canonical != name {
				t.Errorf("%q is not a canonical name", name)
			}
			if len(as) == 0 || len(as) > maxHostsAddrs {
				t.Errorf("%d addresses", len(as))
			}
			if slices.ContainsFunc(as, func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" }) {
				t.Errorf("%v holds an address that is none", as)
			}
		}
	})
}

func FuzzCanonicalName(f *testing.F) {
	for _, s := range []string{"a.example.", "127.1", "0x7f.1", "a..b", "A_b-c.TEST", "xn--bcher-kva.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, ok := canonicalName(host)
		if !ok {
			return
		}
		if again, ok := canonicalName(name); !ok || again != name {
			t.Errorf("%q becomes %q, which becomes %q, %v", host, name, again, ok)
		}
		if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			t.Errorf("%q counts as a name: %q", host, name)
		}
	})
}
