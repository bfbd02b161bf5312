package downstream

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"whsentry/proxy/listen"
	"whsentry/proxy/metrics"
	"whsentry/proxy/reason"
	"whsentry/proxy/socket"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"
)

// stub is a Handler that leaves requests to serve, and tells of what else happens.
type stub struct {
	Conn
	serve func(c *stub, h *fasthttp.RequestHeader, unparsed []byte) (goesOn bool)
	ended chan Ending // with room for all that the connection may see
	heard chan<- string
}

// answers is a serve that answers each request in the same way.
func answers(c *stub, _ *fasthttp.RequestHeader, _ []byte) (goesOn bool) {
	return c.answer("") && c.MayGoOn()
}

// answer sends an answer with that body. It reports whether the client has got it.
func (c *stub) answer(body string) bool {
	c.Enter(Busy)
	defer c.SettleInput()
	return c.Send([]byte(answerTo(body))) == nil
}

// answerTo is an answer whose body ends with a line.
func answerTo(body string) string { return "HTTP/1.1 200 OK\r\n\r\n" + body + "\n" }

func (c *stub) Serve(h *fasthttp.RequestHeader, unparsed []byte) (goesOn bool) {
	return c.serve(c, h, unparsed)
}

func (c *stub) Refuse(f *reason.Failure, _ bool) {
	c.answer("refused: " + f.Text)
	c.In.Release()
}

func (c *stub) TurnAway(bool)    { c.SendAtOnce([]byte(answerTo("turned away"))) }
func (c *stub) End(why Ending)   { c.ended <- why }
func (c *stub) Left()            { c.tell("left") }
func (*stub) AwaitsBody()        {}
func (*stub) Stalled()           {}
func (*stub) Expire(socket.Tick) {}

func (c *stub) Greeted(peer netip.Addr, _ *x509.Certificate) { c.tell("greeted " + peer.String()) }

func (c *stub) tell(what string) {
	if c.heard != nil {
		c.heard <- what
	}
}

// startServer starts a server on the loopback interface, with generous limits unless change sets others.
func startServer(t *testing.T, log io.Writer, change func(*Config), serve func(*stub, *fasthttp.RequestHeader, []byte) bool) *Server {
	t.Helper()
	return startHeard(t, log, change, serve, nil)
}

// startHeard is startServer, with what its clients tell.
func startHeard(t *testing.T, log io.Writer, change func(*Config), serve func(*stub, *fasthttp.RequestHeader, []byte) bool, heard chan<- string) *Server {
	t.Helper()
	logger := zerolog.New(log)
	s := New(func() (Handler, *Conn) {
		c := &stub{serve: serve, ended: make(chan Ending, 8), heard: heard}
		return c, &c.Conn
	}, func() *zerolog.Logger { return &logger })
	l := listen.Config{Type: listen.HTTP, Address: "127.0.0.1:0"}
	cfg := Config{
		ClientTimeout: 10 * time.Second, IdleTimeout: time.Minute, StrangerIdleTimeout: time.Minute, MaxHeaderSize: 64 << 10, MaxConnections: 100,
		Listeners: []listen.Config{l},
	}
	change(&cfg)
	s.Use(cfg)
	if err := s.Open(l, nil, metrics.New("test", "none").Listener(l.Address)); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { // awaited below
		defer close(served)
		s.Serve()
	}()
	t.Cleanup(func() {
		if !s.Stopping() {
			stop(s, 10*time.Second)
		}
		<-served
	})
	return s
}

// stop stops s, whose clients have that long to finish. It reports whether they have.
func stop(s *Server, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.Leave(ctx)
	if s.Drain(ctx) {
		return true
	}
	s.ThrowOut()
	return false
}

// dial connects to s.
func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listeners()[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// expect reads from conn what is to come, and no more.
func expect(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, []byte(want)) {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}
