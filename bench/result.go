package main

import (
	"slices"
	"time"
)

// result is what a run of the suite came to: the content of report.json.
type result struct {
	Started    time.Time        `json:"started"`
	Seconds    float64          `json:"seconds"` // how long the run took
	Short      bool             `json:"short"`   // the short form: too short for judging times
	Rounds     int              `json:"rounds"`
	Pinned     bool             `json:"pinned"`      // proxies had a CPU of their own
	Incomplete bool             `json:"interrupted"` // ended before its end
	Machine    machine          `json:"machine"`
	Peers      []peerResult     `json:"peers"`
	Scenarios  []scenarioResult `json:"scenarios"`
}

// peerResult says which proxy was measured.
type peerResult struct {
	Name    string `json:"name"`
	About   string `json:"about,omitempty"`
	Version string `json:"version,omitempty"`
	Program string `json:"program"`
}

// scenarioResult is what one scenario came to.
type scenarioResult struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	About   string    `json:"about"`
	Of      string    `json:"of"`   // what is counted: request, tunnel
	Main    figure    `json:"main"` // the figure that the scenario asks for
	Rows    []row     `json:"rows"` // one a peer
	Targets []verdict `json:"targets,omitempty"`

	chart chartKind
}

// row is what one scenario came to with one peer.
type row struct {
	Peer     string       `json:"peer"`
	Skipped  string       `json:"skipped,omitempty"` // why it was not measured
	Requests int64        `json:"requests"`          // that succeeded, over all rounds; tunnels and connections likewise
	Failed   int64        `json:"failed"`
	Error    string       `json:"error,omitempty"`   // of the first failure
	Note     string       `json:"note,omitempty"`    // what was different from what the scenario says
	Partial  string       `json:"partial,omitempty"` // why the figures are none to judge
	Rounds   []figures    `json:"rounds,omitempty"`
	Median   figures      `json:"median,omitempty"`
	Low      figures      `json:"low,omitempty"`
	High     figures      `json:"high,omitempty"`
	Curve    []curvePoint `json:"curve,omitempty"`
}

// curvePoint is what was measured at one number of connections.
type curvePoint struct {
	Connections int     `json:"connections"`
	Figures     figures `json:"figures"`
}

// sound reports whether r's figures may be compared: they are there, and hardly a request failed. Failures are cheap, so
// with many of them a proxy looks fast.
func (r *row) sound() bool {
	return r != nil && r.Skipped == "" && r.Requests > 0 && r.Failed*1000 <= r.Requests
}

// row returns the row of the peer called name; nil: none.
func (s *scenarioResult) row(name string) *row {
	i := slices.IndexFunc(s.Rows, func(r row) bool { return r.Peer == name })
	if i < 0 {
		return nil
	}
	return &s.Rows[i]
}

// target is what whsentry must reach in a scenario.
type target struct {
	figure   figure
	most     float64 // of the figure itself, or as a multiple of what peer or scenario measured
	peer     string  // compared with this peer in the same scenario; "": not
	scenario string  // compared with our own figure in that scenario; "": not
}

// The statuses of a verdict.
const (
	met         = "met"
	missed      = "missed"
	notMeasured = "not measured"
)

// verdict is whether a target was reached.
type verdict struct {
	Figure figure  `json:"figure"`
	Than   string  `json:"than,omitempty"`   // what a ratio's divisor is: a peer, or our own in a scenario; "": no ratio
	Most   float64 `json:"most"`             // as target.most
	Value  float64 `json:"value"`            // what is compared with Most: the median over the rounds; 0 also where it was not measured
	Status string  `json:"status"`           // met, missed or not measured
	Reason string  `json:"reason,omitempty"` // why it was not measured
}

// than names what t's figure is divided by; "": nothing.
func (t target) than() string {
	if t.scenario != "" {
		return "own " + t.scenario
	}
	return t.peer
}

// judge compares our row of s with t. all holds the scenarios measured so far.
func (t target) judge(s *scenarioResult, all []scenarioResult) verdict {
	v := verdict{Figure: t.figure, Than: t.than(), Most: t.most, Status: notMeasured}
	values, reason := t.compared(s, all)
	if reason != "" {
		v.Reason = reason
		return v
	}
	v.Value = middle(values)
	v.Status = missed
	// A figure is met where it is as low as the target in the digits that are shown.
	if v.Value < t.most+slack(t) {
		v.Status = met
	}
	return v
}

// slack is half of the last digit that is shown. Of allocations it is what a process makes now and then, whatever the
// requests: what every request allocates is 1 or more.
func slack(t target) float64 {
	if t.figure == allocations {
		return 0.1
	}
	if t.than() != "" {
		return 0.005
	}
	digits := t.figure.info().digits
	half := 0.5
	for range digits {
		half /= 10
	}
	return half
}

// compared returns, for each round, what t is about, or why it can't be told.
func (t target) compared(s *scenarioResult, all []scenarioResult) (values []float64, reason string) {
	mine := s.row(ours)
	if mine != nil && mine.Skipped != "" {
		return nil, mine.Skipped
	}
	if !mine.sound() {
		return nil, ours + " was not measured, or failed"
	}
	if mine.Partial != "" {
		return nil, mine.Partial
	}
	yardstick := mine
	switch {
	case t.peer != "":
		if yardstick = s.row(t.peer); !yardstick.sound() {
			return nil, t.peer + " was not measured, or failed"
		}
	case t.scenario != "":
		i := slices.IndexFunc(all, func(s scenarioResult) bool { return s.ID == t.scenario })
		if i < 0 || !all[i].row(ours).sound() {
			return nil, "the scenario " + t.scenario + " was not measured, or failed"
		}
		yardstick = all[i].row(ours)
	}
	// Rounds follow each other closely, so that what disturbs one disturbs both sides of its ratio.
	for i := range min(len(mine.Rounds), len(yardstick.Rounds)) {
		value, ok := mine.Rounds[i][t.figure]
		if t.than() != "" {
			divisor := yardstick.Rounds[i][t.figure]
			ok = ok && divisor > 0
			value /= divisor
		}
		if ok {
			values = append(values, value)
		}
	}
	if len(values) == 0 {
		return nil, "this system does not tell " + t.figure.says(s.Of)
	}
	return values, ""
}
