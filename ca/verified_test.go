package ca

import (
	"fmt"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// TestKnownChains shows that a chain that is remembered as valid is so for as long as it is, for whom it is for, and under
// the roots that it was found to lead to.
func TestKnownChains(t *testing.T) {
	began := time.Now().Truncate(time.Second)
	until := func(d time.Duration) catest.Change { return catest.Valid(began.Add(-time.Hour), began.Add(d)) }
	root := catest.Root(t, "Root", until(100*time.Hour))
	intermediate := root.Intermediate(t, "Intermediate", until(time.Hour))
	leaf := intermediate.Leaf(t, testHost, until(2*time.Hour))
	s := newStore(t, testConfig(t, root))
	now := began
	s.now = func() time.Time { return now }
	state := stateOf(t, leaf)
	verify := func(host string) error {
		a, err := s.newAttempt(Destination{Host: host, Port: 443}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.verify(state)
	}
	known := s.trust.Load().anchors.verified
	for _, step := range []struct {
		name  string
		host  string
		after time.Duration
		known int
		want  string
	}{
		{"another host at first", "other.test", 0, 0, "certificate is for hooks.example.com, not for other.test"},
		{"first", testHost, 0, 1, ""},
		{"known", testHost, 0, 1, ""},
		{"known, another host", "other.test", 0, 1, "certificate is for hooks.example.com, not for other.test"},
		{"to the last", testHost, time.Hour - 1, 1, ""},
		{"the intermediate has expired", testHost, time.Hour + time.Second, 1, `certificate of the authority "Intermediate" expired`},
		{"before its time", testHost, -2 * time.Hour, 1, "certificate"},
	} {
		now = began.Add(step.after)
		checkError(t, verify(step.host), step.host, true, step.want)
		if n := known.len(); n != step.known {
			t.Errorf("%s: got %d chains remembered; want %d", step.name, n, step.known)
		}
		if t.Failed() {
			t.Fatal(step.name)
		}
	}
	now = began
	// The same bytes in another order, or with others beside them, are another chain.
	state.PeerCertificates = state.PeerCertificates[:1]
	checkError(t, verify(testHost), testHost, true, "unknown authority")
	state = stateOf(t, leaf)
	s.trust.Store(newTrust(bundle{}, nil))
	checkError(t, verify(testHost), testHost, true, "unknown authority")
}

// TestKnownChainsAreBounded in number, and in bytes.
func TestKnownChainsAreBounded(t *testing.T) {
	root := catest.Root(t, "Root")
	s := newStore(t, testConfig(t, root))
	a, err := s.newAttempt(Destination{Host: testHost, Port: 443}, nil)
	if err != nil {
		t.Fatal(err)
	}
	known := a.trust.anchors.verified
	leaf := root.Leaf(t, testHost)
	state := stateOf(t, leaf)
	junk := catest.Root(t, "Junk").Certificate
	// Each server sends as many certificates beside its own as it likes.
	for size := len(leaf.Leaf.Raw); size <= maxVerifiedBytes; size += len(junk.Raw) {
		if err := a.verify(state); err != nil {
			t.Fatal(err)
		}
		state.PeerCertificates = append(state.PeerCertificates, junk)
	}
	most := known.len()
	if err := a.verify(state); err != nil {
		t.Fatal(err)
	}
	if n := known.len(); n != most || n != len(state.PeerCertificates)-1 {
		t.Errorf("got %d chains remembered, %d before the one over %d bytes; want them equal, and %d", n, most, maxVerifiedBytes, len(state.PeerCertificates)-1)
	}
	for i := range maxVerified + 1 {
		var sum chainSum
		copy(sum[:], fmt.Sprint(i))
		known.put(sum, new(verifiedChain))
	}
	if n := known.len(); n != maxVerified {
		t.Errorf("got %d chains remembered; want %d", n, maxVerified)
	}
}
