package admin

import "testing"

func TestIsOurs(t *testing.T) {
	hosts := []string{"metrics.example.com"}
	for _, tt := range []struct {
		host string
		want bool
	}{
		{"127.0.0.1", true}, {"127.0.0.1:2112", true}, {"203.0.113.7:2112", true}, {"[::1]", true}, {"[2001:db8::1]:2112", true},
		{"localhost", true}, {"LocalHost:2112", true}, {"localhost.", true}, {"proxy", true}, {"proxy-1:80", true},
		{"a.internal", true}, {"a.b.INTERNAL:1", true}, {"whsentry.default.svc", true}, {"whsentry.default.svc.cluster.local", true},
		{"box.lan", true}, {"box.home.arpa.", true}, {"metrics.example.com", true}, {"Metrics.Example.com.:2112", true},
		{"", false}, {":2112", false}, {".", false}, {"example.com", false}, {"a.metrics.example.com", false}, {"metrics.example.com.evil.example", false},
		{"a.localhost", false}, {"evilinternal.com", false}, {"a.notinternal", false}, {"a.svc.example.com", false}, {"svc.cluster.local.example", false},
		{"a.local", false}, {"a.arpa", false}, {"127.1", false}, {"127.0.0.1.example.com", false}, {"127.0.0.1.nip.io:2112", false},
		{"user@localhost", false}, {"localhost:99999", false}, {"local host", false}, {"evil.example#localhost", false},
	} {
		if got := isOurs([]byte(tt.host), hosts); got != tt.want {
			t.Errorf("%q: got %v; want %v", tt.host, got, tt.want)
		}
	}
}

// Whatever stands before it, a stranger's domain is a stranger's.
func FuzzIsOurs(f *testing.F) {
	for _, host := range []string{"", "localhost", "[::1]", "a.internal", "a.example", "..", "[", "\xff.lan", "127.0.0.1"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		isOurs([]byte(host), nil)
		if theirs := host + ".example.com"; isOurs([]byte(theirs), []string{"metrics.example.com"}) && theirs != "metrics.example.com" {
			t.Errorf("%q is taken for ours", theirs)
		}
	})
}
