package socket

// Rounds tells when a sweeper comes round so late that the whole process cannot have run: its machine was suspended,
// or its share of the processor used up. What clients and destinations have sent meanwhile has not been read, and their
// time is not up before it has been.
type Rounds struct {
	last    Tick // 0: none yet
	skipped bool
}

// lateRounds is after how many intervals, of which the shortest limit has ten, a round is late.
const lateRounds = 3

// Late reports whether the round that begins at that tick is to be left out. The one before was to be interval earlier,
// in nanoseconds. It never says so twice in a row, so that limits hold however little the process gets to run.
func (r *Rounds) Late(at Tick, interval int64) bool {
	r.skipped = !r.skipped && r.last != 0 && at-r.last > lateRounds*interval
	r.last = at
	return r.skipped
}
