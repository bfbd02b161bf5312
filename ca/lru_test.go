package ca

import "testing"

func TestLRU(t *testing.T) {
	l := newLRU[string, int](2)
	l.put("a", 1)
	l.put("b", 2)
	l.get("a")
	l.put("c", 3) // b was not used for longest
	l.put("a", 4)
	for _, want := range []struct {
		key   string
		value int
		ok    bool
	}{{"a", 4, true}, {"b", 0, false}, {"c", 3, true}} {
		if got, ok := l.get(want.key); got != want.value || ok != want.ok {
			t.Errorf("get %q: got %d, %v; want %d, %v", want.key, got, ok, want.value, want.ok)
		}
	}
	l.drop("a")
	l.drop("a")
	if _, ok := l.get("a"); ok || l.len() != 1 {
		t.Errorf("after drop: got a: %v, %d values; want none, 1", ok, l.len())
	}
	l.put("d", 5)
	l.put("e", 6) // c goes
	if _, ok := l.get("c"); ok || l.len() != 2 {
		t.Errorf("at the limit: got c: %v, %d values; want none, 2", ok, l.len())
	}
}
