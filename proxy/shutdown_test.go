package proxy

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"whsentry/policy"
	"whsentry/proxy/listen"

	"github.com/rs/zerolog"
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

// TestStopAtAnyMoment stops proxies at all moments of their clients' requests. What it comes upon is no bug.
func TestStopAtAnyMoment(t *testing.T) {
	var log bytes.Buffer
	for i := range 40 {
		p := newForBench(t, policy.Config{}, func(cfg *Config) { cfg.Metrics.Address = "" })
		logging := *p.run.Load()
		logging.log = zerolog.New(zerolog.SyncWriter(&log))
		p.run.Store(&logging)
		var running sync.WaitGroup
		running.Go(func() { p.Serve() })
		conn, err := net.Dial("tcp", p.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { // until the proxy ends the connection
			for {
				conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")) // refused, which is quick
				if _, err := conn.Read(make([]byte, 4*kiB)); err != nil {
					return
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond+time.Duration(i)*50*time.Microsecond)
		p.Shutdown(ctx)
		cancel()
		running.Wait()
		conn.Close()
	}
	if log.Len() > 0 {
		t.Errorf("got in the log: %.300s", log.String())
	}
}
