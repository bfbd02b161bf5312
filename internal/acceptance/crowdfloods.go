//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// connections fills every place and floods what is left with 5,000 clients.
func (t *crowdTest) connections(s *sentry) error {
	const places, flood = 500, 5000
	held, err := dialMany(s, places)
	defer closeAll(held)
	if err != nil {
		return err
	}
	if err := t.have(s, clientsMetric, places); err != nil {
		return err
	}
	var told, closed atomic.Int64
	problems := make(chan error, flood)
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			for range flood / 50 {
				m, err := ask(s.address, t.post("status 200"))
				switch {
				case err != nil:
					closed.Add(1)
				case m.verdict() == "503/1014" && m.get("Retry-After") != "":
					told.Add(1)
				default:
					problems <- fmt.Errorf("got %s with no place left; want 503/1014", m.verdict())
				}
			}
		})
	}
	running.Wait()
	select {
	case err := <-problems:
		return err
	default:
	}
	if told.Load() < flood*9/10 {
		return fmt.Errorf("%d of %d clients were told that there is no place, %d found their connection closed", told.Load(), flood, closed.Load())
	}
	for _, conn := range held[:20] {
		io.WriteString(conn, t.post("status 200"))
		m, err := readAnswer(bufio.NewReader(conn), "POST")
		if err != nil {
			return fmt.Errorf("one who has a place: %w", err)
		}
		if err := want("the answer to one who has a place", m.verdict(), "200/0"); err != nil {
			return err
		}
	}
	closeAll(held)
	return t.have(s, clientsMetric, 0)
}

// bodies sends 300 bodies of 1 MiB where there is memory for 16.
func (t *crowdTest) bodies(s *sentry) error {
	const limit, size, clients = 16 << 20, 1 << 20, 300
	const mostResident = 160 << 20 // buffers grow by powers of two, and garbage waits for its collection
	head := strings.Replace(t.post("wait 200"), "Content-Length: 2\r\n\r\nhi", fmt.Sprintf("Connection: close\r\nContent-Length: %d\r\n\r\n", size), 1)
	body := strings.Repeat("b", size)
	var served, refused, failed atomic.Int64
	var running sync.WaitGroup
	for range 100 {
		running.Go(func() {
			for range clients / 100 {
				m, err := ask(s.address, head+body)
				switch {
				case err != nil:
					failed.Add(1)
				case m.verdict() == "200/0":
					served.Add(1)
				case m.verdict() == "503/1014":
					refused.Add(1)
				default:
					failed.Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { // ends with the clients
		running.Wait()
		close(done)
	}()
	for {
		samples, err := s.scrape()
		if err != nil {
			return err
		}
		if n := samples["whsentry_buffered_bytes"]; n > limit {
			return fmt.Errorf("%.0f bytes are buffered; want %d at most", n, limit)
		}
		if n := samples["process_resident_memory_bytes"]; n > mostResident {
			return fmt.Errorf("%.0f bytes are resident; want %d at most", n, mostResident)
		}
		select {
		case <-done:
			if served.Load() == 0 || refused.Load() == 0 || failed.Load() > clients/20 {
				return fmt.Errorf("%d bodies served, %d refused with 503/1014, %d failed otherwise; want some of the first two",
					served.Load(), refused.Load(), failed.Load())
			}
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pipelines sends requests on 60 connections as fast as they are taken, and reads no answer.
func (t *crowdTest) pipelines(s *sentry) error {
	const mostResident = 160 << 20
	conns, err := dialMany(s, 60)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for i, conn := range conns {
		request := refusedRequest
		if i%2 == 0 {
			request = t.post("size 60000")
		}
		running.Go(func() {
			many := strings.Repeat(request, 200)
			for {
				if _, err := io.WriteString(conn, many); err != nil {
					return
				}
			}
		})
	}
	broken := make(chan struct{})
	go func() { // ends with the connections
		running.Wait()
		close(broken)
	}()
	for end := time.Now().Add(time.Minute); ; {
		if err := t.honest(s); err != nil {
			return err
		}
		now, err := s.levels()
		if err == nil && now.resident > mostResident {
			err = fmt.Errorf("%v; want %d bytes resident at most", now, mostResident)
		}
		if err == nil && time.Now().After(end) {
			err = errors.New("clients that read no answer are not broken off")
		}
		if err != nil {
			closeAll(conns)
			return err
		}
		select {
		case <-broken:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}
