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
	var rounds rounds
	for {
		select {
		case <-p.sweeps:
			return
		case <-timer.C:
		}
		at, interval := socket.Now(), p.interval.Load()
		if rounds.late(at, interval) {
			p.clients.Oversleep()
			timer.Reset(time.Duration(interval))
			continue
		}
		p.clients.Sweep(at)
		p.pool.Sweep(at)
		timer.Reset(time.Duration(interval))
	}
}

// rounds tells when the sweeper comes round so late that the whole process cannot have run: its machine was suspended,
// or its share of the processor used up. What clients and destinations have sent meanwhile has not been read, and their
// time is not up before it has been.
type rounds struct {
	last    socket.Tick // 0: none yet
	skipped bool
}

// lateRounds is after how many intervals, of which the shortest limit has ten, a round is late.
const lateRounds = 3

// late reports whether the round that begins is to be left out. It never says so twice in a row, so that limits hold
// however little the process gets to run.
func (r *rounds) late(at socket.Tick, interval int64) bool {
	r.skipped = !r.skipped && r.last != 0 && at-r.last > lateRounds*interval
	r.last = at
	return r.skipped
}
