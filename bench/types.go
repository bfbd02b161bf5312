package main

import (
	"crypto/tls"
	"io"
	"sync/atomic"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
)

// suiteOptions is what the command line asks of the suite.
type suiteOptions struct {
	scenarios []string      // ids to run; empty: all of them
	peers     []string      // names of peers to run beside whsentry; empty: every one found installed; "none": none
	peersFile string        // YAML file that describes further peers; "": none
	out       string        // folder for report.html and report.json; made where it is missing
	binary    string        // a whsentry already built; "": build it from the module around the working directory
	short     bool          // the form that CI runs: ours and haproxy, one round, small counts
	rounds    int           // interleaved rounds; 0: as the form says
	duration  time.Duration // of each measurement; 0: as the form and the scenario say
	compare   string        // report.json of an older run to compare with; "": none
	report    string        // report.json to compare instead of a run; "": run
	counts    string        // file to compare counts with instead of a run of the suite; "": none
	list      bool          // print scenarios and peers, run nothing
	stdout    io.Writer     // for the table; nil: standard output
	stderr    io.Writer     // for the progress line; nil: standard error
}

// loadKind is which load generator a load is for.
type loadKind int

const (
	loadRequests     loadKind = iota // requests on kept-alive connections: closed loop, or open loop where rate is set
	loadTunnelBulk                   // bytes through CONNECT tunnels that stay open, every other one upwards
	loadTunnelOpen                   // CONNECT, a byte there and back, close, and again
	loadIdleClients                  // connections clients, of which each rests after one request
	loadDestinations                 // one request to each of targets, so that the proxy keeps a connection to each
)

// load says what is sent through a proxy.
type load struct {
	kind        loadKind
	targets     []string      // absolute URIs, or host:port for tunnels; taken in turn
	header      []string      // further "Name: value" lines, without line ends
	method      string        // "": GET, or POST where there is a body
	body        []byte        // the same for every request; nil: none
	connections int           // client connections, or tunnels at once; 0: 1
	rate        float64       // open loop: requests a second in all; 0: closed loop
	maxRate     float64       // closed loop: at most so many requests a second in all; 0: no ceiling
	duration    time.Duration // ends after it or after count, whichever is first; 0: count alone decides
	count       int64         // requests, tunnels, or bytes (loadTunnelBulk); 0: duration alone decides
	timeout     time.Duration // for one request from its first byte to the answer's last, exact to a second; 0: 10 s
	cold        bool          // no warm-up: connections are opened before, but make no request that is not counted
	lone        bool          // each request over a client connection of its own, which says Connection: close
	tunnel      string        // host:port: client connections are tunnels to it, through which the requests go; "": none
	anyStatus   bool          // every whole answer is a success that is below 500 and not the proxy's own; else only 200 is
	proxyTLS    *tls.Config   // to speak TLS to the proxy itself; nil: plain TCP
	pause       time.Duration // idle kinds: how long to rest before end is called, so that memory settles

	// begin is called right before what is measured starts. By then every connection is open and, unless cold, has made a
	// request, and every target was asked once (not counted in the outcome). For the idle kinds, and for loadTunnelOpen,
	// it is called before the first connection. nil: nothing.
	begin func()
	// end is called right after what is measured has ended, while the connections are still open. nil: nothing.
	end func()
	// done is raised by one as each request or tunnel ends (by its bytes for loadTunnelBulk), for whoever shows
	// progress. nil: nobody.
	done *atomic.Int64
}

// outcome is what came of a load. Its run returns it also beside an error: what was measured up to then.
type outcome struct {
	requests   int64                   // that succeeded: requests, tunnels, or connections for the idle kinds
	failed     int64                   // that did not; a run with failures is never reported as a fast one
	bytes      int64                   // of response bodies, or moved through tunnels in both directions together
	took       time.Duration           // from begin to end, less pause
	latency    *hdrhistogram.Histogram // nanoseconds, of requests that succeeded; open loop: from the moment each was due. Never nil
	firstError string                  // of the first failure; "": none
}

// setup is what a proxy is started for.
type setup struct {
	dir     string // for the proxy's files; it exists
	address string // 127.0.0.1:port to listen on
	origins *origins
	tls     bool // the proxy originates TLS to the destination
	full    bool // with everything on that it has, as its peer's key everything says
}

// command is how a proxy is started.
type command struct {
	path    string
	args    []string          // without the program's name
	env     []string          // "NAME=value", on top of PATH, HOME and TMPDIR, the last two being the setup's dir
	files   map[string]string // name in the setup's dir -> content; written before the start
	header  []string          // "Name: value" lines that requests must carry
	check   string            // an argument, to stand first, that has it look at its configuration and end; "": none
	metrics string            // host:port whose /metrics tells go_memstats_mallocs_total; "": none
}

// usage is what a proxy, all its processes together, has used since it started, without what it took to ask.
type usage struct {
	user, system time.Duration // CPU time; their sum has nanoseconds, how it divides is exact to 10 ms; -1 both: unknown
	rss          int64         // resident memory now, bytes; -1: unknown
	mallocs      int64         // objects that a Go program has allocated since it was first asked; -1: unknown
}
