package accesslog

import (
	"regexp"
	"testing"
)

func TestMakeID(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		var r Record
		r.MakeID()
		if id := string(r.ID); !uuid.MatchString(id) || seen[id] {
			t.Fatalf("got %q; want a UUID that has not been there", id)
		}
		seen[string(r.ID)] = true
	}
}

// The log names every version that a destination may speak in the same way.
func TestTLSVersionName(t *testing.T) {
	for version, want := range map[uint16]string{0: "", 0x0301: "TLSv1.0", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"} {
		if got := TLSVersionName(version); got != want {
			t.Errorf("%#04x: got %q; want %q", version, got, want)
		}
	}
}

// TestRecordForgets: nothing of a request is left for the next one but memory, and that only where it is not large.
func TestRecordForgets(t *testing.T) {
	r := &Record{Client: "shop", Status: 200, URL: append(make([]byte, 0, 100), "http://h/"...), line: make([]byte, maxKept+1)}
	r.MakeID()
	r.Forget()
	if len(r.ID) != 0 || r.Client != "" || r.Status != 0 || len(r.URL) != 0 || cap(r.URL) != 100 || cap(r.line) != 0 {
		t.Errorf("got %+v", r)
	}
}
