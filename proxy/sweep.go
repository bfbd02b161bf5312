package proxy

import (
	"time"

	"whsentry/proxy/socket"
)

// sweep is the goroutine that enforces every limit in time.
func (p *Proxy) sweep() {
	defer close(p.swept)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var rounds socket.Rounds
	for {
		select {
		case <-p.sweeps:
			return
		case <-timer.C:
		}
		at, interval := socket.Now(), p.interval.Load()
		if rounds.Late(at, interval) {
			p.clients.Oversleep()
			timer.Reset(time.Duration(interval))
			continue
		}
		p.clients.Sweep(at)
		p.pool.Sweep(at)
		timer.Reset(time.Duration(interval))
	}
}
