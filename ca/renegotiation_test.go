package ca

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// askToRenegotiate makes a handshake as a server and asks for another one. It returns the type of the record that comes in
// answer: 21 is an alert, 22 a handshake.
func askToRenegotiate(t *testing.T, conn net.Conn, cfg *tls.Config) (answer byte) {
	r, err := catest.NewRenegotiator(conn, cfg)
	if err == nil {
		err = r.Ask()
	}
	head := make([]byte, 5)
	if err == nil {
		_, err = io.ReadFull(conn, head)
	}
	if err != nil {
		t.Errorf("ask for a renegotiation: %v", err)
	}
	return head[0]
}

// TestRenegotiation shows that one is refused with a text that says what it takes, and begun where it is allowed.
func TestRenegotiation(t *testing.T) {
	root := catest.Root(t, "Root")
	cfg := testConfig(t, root)
	cfg.Destinations = []RulesConfig{{Renegotiation: true}, {}}
	s := newStore(t, cfg)
	server := &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}}
	for _, tt := range []struct {
		name  string
		rules *Rules
		want  byte
	}{
		{"no entry", nil, 21},
		{"not in the entry", s.Rules(1), 21},
		{"in the entry", s.Rules(0), 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := make(chan byte, 1)
			port := serve(t, func(conn net.Conn) { answers <- askToRenegotiate(t, conn, server) })
			conn := connect(t, port)
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client, err := s.Handshake(ctx, conn, Destination{Host: testHost, Port: port, Rules: tt.rules}, nil)
			if err != nil {
				t.Fatalf("Handshake: %v", err)
			}
			client.SetDeadline(time.Now().Add(patience))
			_, err = client.Read(make([]byte, 1))
			if got := <-answers; got != tt.want {
				t.Errorf("got a record of type %d in answer; want %d", got, tt.want)
			}
			refused := tt.want == 21
			f := Explain(err, testHost)
			if IsRenegotiation(err) != refused || (f.Cause == CauseRenegotiation) != refused {
				t.Errorf("got %v, %+v; want a renegotiation that is refused: %v", err, f, refused)
			}
			if refused && !strings.Contains(f.Text, "renegotiation in its entry of destinations allows one") {
				t.Errorf("got the text %q; want what cures it", f.Text)
			}
			if IsAlert(err) {
				t.Errorf("%v is taken for an alert of the server", err)
			}
		})
	}
}
