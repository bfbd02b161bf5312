//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const loadClients = 200

// loadTest is one run: what was sent, what came of each request, and how often each arrived.
type loadTest struct {
	s           *sentry
	destination string // host:port
	closed      string // an address that refuses connections
	jobs        []int  // for each request, by id, which of kinds it is
	outcomes    []string
	arrived     []atomic.Int32
	unexpected  tally // what went wrong, by kind and outcome
}

// load sends a mixture of requests from many clients; what the clients saw, what the metrics count and what the access
// log says must be the same, request by request.
func load(ctx context.Context, o options) *report {
	r := &report{name: "load"}
	l := &loadTest{outcomes: make([]string, o.requests), arrived: make([]atomic.Int32, o.requests)}
	l.deal(o.requests)
	closeAll, err := l.begin(ctx, o)
	if !r.check("load/starts", err) {
		return r
	}
	defer closeAll()
	began := time.Now()
	l.run(ctx)
	took := time.Since(began)
	fmt.Printf("%d requests from %d connections in %v: %.0f a second\n",
		o.requests, loadClients, took.Round(time.Millisecond), float64(o.requests)/took.Seconds())

	r.check("load/every outcome is as it must be", l.asMeant())
	r.check("load/no POST arrived twice, each answered with 200 once", l.once())
	log := filepath.Join(l.s.dir, "access.log")
	r.check("load/the last line comes into the log", eventually(ctx, 5*time.Second, func() error {
		lines, err := countLines(log)
		if err != nil {
			return err
		}
		return want("lines", lines, o.requests)
	}))
	counted, err := l.counted(ctx)
	r.check("load/metrics are there", err)
	r.check("load/every promised metric is there", l.promised())
	r.check("load/untidy answers are counted", l.untidyCounted())
	r.check("load/nothing is left open", l.settled(ctx))
	if samples, err := l.s.scrape(); err == nil {
		fmt.Printf("whsentry used %.0f us of CPU a request, and holds %.0f MiB\n",
			samples["process_cpu_seconds_total"]*1e6/float64(o.requests), samples["process_resident_memory_bytes"]/(1<<20))
	}
	r.check("load/exits 0", l.s.stop(stopLimit))
	logged, err := l.logged(log)
	r.check("load/log lines are valid, one a request, with the client's outcome", err)
	seen := map[string]int{}
	for _, outcome := range l.outcomes {
		seen[outcome]++
	}
	r.check("load/clients, metrics and log agree", agree(seen, counted, logged))
	return r
}

// deal spreads the kinds over n requests, in an order that is the same for every run.
func (l *loadTest) deal(n int) {
	for i, k := range kinds {
		for range k.weight * n / 1000 {
			l.jobs = append(l.jobs, i)
		}
	}
	for len(l.jobs) < n {
		l.jobs = append(l.jobs, 0)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { l.jobs[i], l.jobs[j] = l.jobs[j], l.jobs[i] })
}

// begin starts the destination, a name server and whsentry.
func (l *loadTest) begin(ctx context.Context, o options) (closeAll func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := newOrigin(func(a arrival) {
		if id, err := strconv.Atoi(a.get("X-Case")); err == nil && id < len(l.arrived) {
			l.arrived[id].Add(1)
		}
	})
	server.listen(ln)
	l.destination = ln.Addr().String()
	fd, closed, err := refusingAddress()
	if err != nil {
		return nil, err
	}
	l.closed = closed
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	var queries tally
	names := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { answerQuery(w, q, &queries) })}
	go names.ActivateAndServe() // until Shutdown
	l.s, err = start(ctx, o, filepath.Join(o.scratch, "load"), fmt.Sprintf(
		"cidrAllowList: [127.0.0.1/32]\nreadTimeout: 2s\nmaxRequestBodySize: 256KiB\ncaBundle: {url: \"\"}\n"+
			"dns: {servers: [\"%s\"]}\naccessLog: {type: json, file: access.log}\n", packets.LocalAddr()))
	return func() {
		names.Shutdown()
		server.close()
		syscall.Close(fd)
	}, err
}

// refusingAddress is an address on 127.0.0.1 that refuses connections for as long as fd, bound to it, is open.
func refusingAddress() (fd int, address string, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, "", err
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), nil
}

// run lets each client work off its share of the requests.
func (l *loadTest) run(ctx context.Context) {
	var wg sync.WaitGroup
	for c := range loadClients {
		wg.Go(func() { l.client(ctx, c) })
	}
	wg.Wait()
}

// client sends every loadClients-th request over one connection, which it opens again where it must.
func (l *loadTest) client(ctx context.Context, first int) {
	var conn net.Conn
	var br *bufio.Reader
	for id := first; id < len(l.jobs) && ctx.Err() == nil; id += loadClients {
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", l.s.address, 10*time.Second); err != nil {
				l.unexpected.add("connect: " + err.Error())
				return
			}
			br = bufio.NewReader(conn)
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		k := &kinds[l.jobs[id]]
		outcome, goesOn, err := l.perform(conn, br, k, id)
		l.outcomes[id] = outcome
		if err != nil || outcome != k.want {
			l.unexpected.add(fmt.Sprintf("%s: got %s; want %s (%v)", k.name, outcome, k.want, err))
		}
		if !goesOn {
			conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		conn.Close()
	}
}

func rightBody(answer *message, sent string) error {
	if strings.Contains(sent, "\r\n0\r\n") { // chunked: between the first size and the end
		_, sent, _ = strings.Cut(sent, "\r\n")
		sent, _, _ = strings.Cut(sent, "\r\n0\r\n")
	}
	expected := fmt.Sprintf("received %x %d at 127.0.0.1\n", sha256.Sum256([]byte(sent)), len(sent))
	return want("the destination says", string(answer.Body), expected)
}

// asMeant lists the first of what was unexpected.
func (l *loadTest) asMeant() error {
	all := l.unexpected.all()
	if len(all) == 0 {
		return nil
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, fmt.Sprintf("%d x %s", all[what], what))
	}
	return fmt.Errorf("%s", strings.Join(lines[:min(len(lines), 30)], "\n"))
}

// once holds every POST to at most one arrival, and to exactly one where the client was told 200.
func (l *loadTest) once() error {
	posts, wrong := 0, tally{}
	for id := range l.jobs {
		k := kinds[l.jobs[id]]
		if !strings.HasPrefix(k.build(l, id), "POST ") {
			continue
		}
		posts++
		times := l.arrived[id].Load()
		delivered := strings.HasPrefix(l.outcomes[id], "200/")
		if times > 1 || delivered && times != 1 {
			wrong.add(fmt.Sprintf("%s (%s): arrived %d times", k.name, l.outcomes[id], times))
		}
	}
	if all := wrong.all(); len(all) > 0 || posts < len(l.jobs)/3 {
		return fmt.Errorf("of %d posts: %v", posts, all)
	}
	return nil
}

func countLines(file string) (int, error) {
	text, err := os.ReadFile(file)
	return bytes.Count(text, []byte("\n")), err
}

var requestsTotal = regexp.MustCompile(`^whsentry_requests_total\{status="(\d+)",reason="(\d+)",source="[a-z]*"\}$`)

// counted is whsentry_requests_total by outcome, once it counts them all.
func (l *loadTest) counted(ctx context.Context) (map[string]int, error) {
	counted := map[string]int{}
	err := eventually(ctx, 5*time.Second, func() error {
		samples, err := l.s.scrape()
		if err != nil {
			return err
		}
		clear(counted)
		total := 0
		for name, value := range samples {
			if m := requestsTotal.FindStringSubmatch(name); m != nil && value > 0 {
				counted[m[1]+"/"+m[2]] += int(value)
				total += int(value)
			}
		}
		if err := want("requests in whsentry_request_duration_seconds", int(samples["whsentry_request_duration_seconds_count"]), len(l.jobs)); err != nil {
			return err
		}
		return want("requests in whsentry_requests_total", total, len(l.jobs))
	})
	return counted, err
}

// promised holds /metrics to the names that dashboards rely on.
func (l *loadTest) promised() error {
	samples, err := l.s.scrape()
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range promisedMetrics {
		found := false
		for sample := range samples {
			found = found || sample == name || strings.HasPrefix(sample, name+"{")
		}
		if !found {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not there: %s", strings.Join(missing, ", "))
	}
	return nil
}

// settled waits for the gauges of what is open to be back at 0.
func (l *loadTest) settled(ctx context.Context) error {
	return eventually(ctx, 5*time.Second, func() error {
		samples, err := l.s.scrape()
		if err != nil {
			return err
		}
		for _, metric := range []string{"whsentry_client_connections", "whsentry_buffered_bytes", "whsentry_tunnels", `whsentry_destination_connections{state="busy"}`} {
			if n := sum(samples, metric); n != 0 {
				return fmt.Errorf("%s is %v; want 0", metric, n)
			}
		}
		return nil
	})
}

// line is what is compared of a JSON access-log line.
type line struct {
	Time   time.Time `json:"time"`
	ID     string    `json:"rq_id"`
	Client string    `json:"client_addr"`
	Code   int       `json:"response_code"`
	Reason any       `json:"reason_code"`
}

// logged reads the access log: every line valid, every request there once, with the outcome that its client saw.
func (l *loadTest) logged(file string) (map[string]int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	logged, times, wrong := map[string]int{}, make([]int, len(l.jobs)), tally{}
	for raw := range bytes.Lines(text) {
		var entry line
		if err := json.Unmarshal(raw, &entry); err != nil {
			wrong.add(fmt.Sprintf("line %q: %v", raw, err))
			continue
		}
		outcome := fmt.Sprintf("%d/0", entry.Code)
		if entry.Reason != nil {
			outcome = fmt.Sprintf("%d/%v", entry.Code, entry.Reason)
		}
		logged[outcome]++
		number, ours := strings.CutPrefix(entry.ID, "load-")
		id, err := strconv.Atoi(number)
		ours = ours && err == nil && id < len(times)
		if problem := keysOf(raw, entry.Code, ours && kinds[l.jobs[id]].name == untidy); problem != "" {
			wrong.add(problem)
		}
		if entry.Time.IsZero() || entry.Client == "" {
			wrong.add(fmt.Sprintf("a line without time or client_addr: %q", raw))
		}
		if !ours {
			continue
		}
		times[id]++
		if l.outcomes[id] != outcome {
			wrong.add(fmt.Sprintf("%s: the client saw %s, the log says %s", kinds[l.jobs[id]].name, l.outcomes[id], outcome))
		}
	}
	for id, n := range times {
		if k := kinds[l.jobs[id]]; n > 1 || n == 0 && !k.noID {
			wrong.add(fmt.Sprintf("%s: %d lines for one request", k.name, n))
		}
	}
	if all := wrong.all(); len(all) > 0 {
		lines := slices.Sorted(maps.Keys(all))
		for i, what := range lines {
			lines[i] = fmt.Sprintf("%d x %s", all[what], what)
		}
		return logged, errors.New(strings.Join(lines[:min(len(lines), 20)], "\n"))
	}
	return logged, nil
}

// agree prints the three counts beside each other and holds them to being the same.
func agree(seen, counted, logged map[string]int) error {
	all := maps.Clone(seen)
	maps.Copy(all, counted)
	maps.Copy(all, logged)
	var differ []string
	fmt.Printf("  %-14s %10s %10s %10s\n", "status/reason", "clients", "metrics", "log")
	for _, outcome := range slices.Sorted(maps.Keys(all)) {
		fmt.Printf("  %-14s %10d %10d %10d\n", outcome, seen[outcome], counted[outcome], logged[outcome])
		if seen[outcome] != counted[outcome] || seen[outcome] != logged[outcome] {
			differ = append(differ, fmt.Sprintf("%s: clients %d, metrics %d, log %d", outcome, seen[outcome], counted[outcome], logged[outcome]))
		}
	}
	if len(differ) > 0 || len(all) < 10 {
		return fmt.Errorf("%d outcomes; %s", len(all), strings.Join(differ, "; "))
	}
	return nil
}
