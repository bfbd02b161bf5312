package proxy

import (
	"net"
	"testing"
	"time"

	"whsentry/policy"
	"whsentry/proxy/listen"
)

// TestShutdownBeforeMetricsAreServed stops a proxy that has only just been started: what serves the metrics comes to run
// when it is told to end already.
func TestShutdownBeforeMetricsAreServed(t *testing.T) {
	p := newForBench(t, policy.Config{}, nil)
	go p.sweep() // what Serve begins with, but for the metrics
	go p.clients.Serve()
	ended := make(chan error, 1)
	go func() { ended <- p.Shutdown(t.Context()) }()
	<-p.swept
	patience := time.After(10 * time.Second)
	for {
		conn, err := net.Dial("tcp", p.MetricsAddr().String())
		if err != nil {
			break // the address is given up
		}
		conn.Close()
		select {
		case <-patience:
			t.Fatal("the metrics' address is not given up")
		case <-time.After(10 * time.Millisecond): // each takes a place in the queue of those that nobody accepts
		}
	}
	p.admin.Serve(listen.Patient(p.adminLn, nil))
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
