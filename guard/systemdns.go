package guard

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxSystemFile is how much of /etc/hosts and /etc/resolv.conf is read, in bytes. What follows is ignored.
	maxSystemFile = 4 << 20
	// maxSystemServers is how many of the resolvers in /etc/resolv.conf are asked, as in the C library.
	maxSystemServers = 3

	// maxHostsAddrs is how many addresses /etc/hosts may give a name. Others are ignored.
	maxHostsAddrs = 64

	defaultTryTimeout = 2 * time.Second
	maxTryTimeout     = 5 * time.Second
	defaultAttempts   = 2
	maxAttempts       = 5
)

// asking says whom to ask, and how patiently.
type asking struct {
	servers  []netip.AddrPort
	timeout  time.Duration // for one answer of one server
	attempts int           // rounds over the servers
}

// hosts is /etc/hosts: addresses in the order in which they are to be tried, by canonical name.
type hosts map[string][]netip.Addr

// parsedFile is the content of a file as it was when it was last seen to change.
type parsedFile[T any] struct {
	info  os.FileInfo // nil where the file could not be read
	value T
}

// watchFile returns the parsed content of the file at path, which is looked at again every few seconds and
// read where it has changed. A file that is not there, or could not be read yet, counts as empty; where reading
// it fails later, for want of a file descriptor perhaps, what was read before stays, and it is tried again.
func watchFile[T any](path string, now func() time.Time, parse func([]byte) T) *snapshot[parsedFile[T]] {
	s, _ := newSnapshot(now, func(old parsedFile[T]) (parsedFile[T], error) {
		info, err := os.Stat(path)
		if err == nil && unchanged(old.info, info) {
			return old, nil
		}
		data, err := readSystemFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return parsedFile[T]{nil, parse(nil)}, err
		}
		return parsedFile[T]{info, parse(data)}, nil
	})
	return s
}

// unchanged reports whether b describes the same state of the same file as a, which may be nil.
func unchanged(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// readSystemFile returns the beginning of the file, at most maxSystemFile bytes.
func readSystemFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSystemFile))
}

// fields calls f with the fields of every line, comments left out.
func fields(data []byte, comment string, f func([]string)) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxSystemFile+1)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.IndexAny(line, comment); i >= 0 {
			line = line[:i]
		}
		if words := strings.Fields(line); len(words) > 0 {
			f(words)
		}
	}
}

// parseResolvConf reads resolv.conf(5): nameserver, and of the options timeout and attempts, within our
// bounds. Without a nameserver it is the one on this host.
func parseResolvConf(data []byte) asking {
	a := asking{timeout: defaultTryTimeout, attempts: defaultAttempts}
	fields(data, "#;", func(words []string) {
		switch words[0] {
		case "nameserver":
			if len(words) < 2 || len(a.servers) == maxSystemServers {
				return
			}
			if addr, err := netip.ParseAddr(words[1]); err == nil {
				a.servers = append(a.servers, netip.AddrPortFrom(addr, 53))
			}
		case "options":
			for _, o := range words[1:] {
				a.option(o)
			}
		}
	})
	if len(a.servers) == 0 {
		a.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return a
}

// option takes one of resolv.conf's options; those that are unknown or malformed change nothing.
func (a *asking) option(o string) {
	key, value, _ := strings.Cut(o, ":")
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return
	}
	switch key {
	case "timeout":
		a.timeout = min(time.Duration(n)*time.Second, maxTryTimeout)
	case "attempts":
		a.attempts = min(int(n), maxAttempts)
	}
}

// parseHosts reads hosts(5). Lines with a malformed address, and names that are none, are skipped.
func parseHosts(data []byte) hosts {
	h := hosts{}
	fields(data, "#", func(words []string) {
		addr, err := netip.ParseAddr(words[0])
		if err != nil || addr.Zone() != "" {
			return
		}
		for _, w := range words[1:] {
			name, ok := canonicalName(w)
			if ok && len(h[name]) < maxHostsAddrs && !slices.Contains(h[name], addr) {
				h[name] = append(h[name], addr)
			}
		}
	})
	for name, addrs := range h {
		h[name] = inTryingOrder(addrs)
	}
	return h
}
