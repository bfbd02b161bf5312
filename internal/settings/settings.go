// Package settings has every key of the configuration once: its name in the file, its flag, its environment variable,
// what it accepts, what it is for, and where its value goes. settings.go has the table, values.go how values are written,
// and limits.go within which limits; load.go fills them in from flags, environment (environ.go), file and defaults, the
// file's by way of configfile.go (flow.go mends what its lexer has wrong) and, for clients, destinations and certificates,
// rulesfile.go; rules.go tells the parts what concerns more than one of them. An error is one line that names the place,
// the key, the value and what is accepted. inforce.go lists for the status page what is in use.
package settings

import (
	"net/netip"
	"strings"
	"time"
	"unicode"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/policy"
	"whsentry/proxy"
	"whsentry/proxy/listen"
)

// Settings is everything that can be configured, by the package that it is for.
type Settings struct {
	Guard guard.Config
	CA    ca.Config
	Proxy proxy.Config
	Log   LogConfig

	// Policy is who may send where (clients, destinations, breaker); what it has of other keys is filled in too.
	Policy policy.Config

	// File is the file that it was read from, from the root where that is known; "": there was none.
	File string
	// Memory is what the process may use, in bytes, as Sources has it; 0: not known.
	Memory uint64

	// listener is proxy.Listeners' one endpoint where the key listeners is not set.
	listener listen.Config

	// origin says where each key that is set was set, in the words of an error: config.yaml:12. Beside the keys of
	// the table it has those within structures: listeners[1].address.
	origin map[string]string
	home   string // $HOME
}

// Setting is one row of the table: a key, and everything that is to be known of it.
type Setting struct {
	Key         string // as in the YAML file: dns.cacheTTL
	Help        string // one line, with the unit
	Placeholder string // stands for a value in --help; "" for a boolean, whose flag needs none
	Want        string // what is accepted
	// fallback is what the default is in words, where it depends on the machine; "": what Default has.
	fallback string
	list     bool
	// structure marks a mapping or a list of them, which only the file can hold; set and get are nil.
	Structure bool

	// set stores values, of which there is one but for a list. path is the key as the user sees it, for errors.
	set func(s *Settings, path string, values []scalar) error
	// get returns what s holds, in a form that set accepts.
	get func(s *Settings) []string
}

// Flag is the key's name on the command line: --dns-cache-ttl.
func (st *Setting) Flag() string { return "--" + kebab(st.Key) }

// Variable is the key's name in the environment: WHSENTRY_DNS_CACHE_TTL.
func (st *Setting) Variable() string {
	return "WHSENTRY_" + strings.ToUpper(strings.ReplaceAll(kebab(st.Key), "-", "_"))
}

// Boolean reports whether the setting is a flag that needs no value.
func (st *Setting) Boolean() bool { return st.Placeholder == "" }

// show returns a setting's value for people: the items of a list, and "none" where there is none.
func (st *Setting) show(s *Settings) string {
	values := st.get(s)
	if text := strings.Join(values, ", "); text != "" {
		return text
	}
	return "none"
}

// inWords returns st with a default that depends on the machine.
func (st Setting) inWords(fallback string) Setting {
	st.fallback = fallback
	return st
}

// DefaultText is the default for people; the same on every machine.
func (st *Setting) DefaultText() string {
	if st.fallback != "" || st.get == nil {
		return st.fallback
	}
	return st.show(Default())
}

// Flags returns the settings that have a flag and a variable, in the order of the documentation. The first is --config.
func Flags() []*Setting {
	all := []*Setting{&configFile}
	for i := range table {
		if !table[i].Structure {
			all = append(all, &table[i])
		}
	}
	return all
}

// FileOnly returns the settings that only the file can hold.
func FileOnly() []*Setting {
	var all []*Setting
	for i := range table {
		if table[i].Structure {
			all = append(all, &table[i])
		}
	}
	return all
}

// configFile names the file that settings are read from. It is no key of it.
var configFile = Setting{Key: "config", Placeholder: "FILE", Want: "the name of a file", Help: "YAML file with settings",
	fallback: "config.yaml in the working directory where there is one"}

// kebab writes the words of a key with hyphens between them. A run of capitals is one word.
func kebab(key string) string {
	var b strings.Builder
	letters := []rune(key)
	for i, c := range letters {
		if c == '.' {
			b.WriteByte('-')
			continue
		}
		if unicode.IsUpper(c) && i > 0 && letters[i-1] != '.' {
			endsRun := i+1 < len(letters) && unicode.IsLower(letters[i+1])
			if !unicode.IsUpper(letters[i-1]) || endsRun {
				b.WriteByte('-')
			}
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// Nearest returns the one of names that name was most likely meant to be, or "" where none is like it.
func Nearest(name string, names []string) string {
	const longest = 64 // of a key or flag, with room for a slip
	if len(name) > longest {
		return ""
	}
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(s))
	}
	best, least := "", max(len(name)/4, 1)+1
	for _, candidate := range names {
		if d := distance(plain(name), plain(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to add, drop, replace or swap with the next to make b of a.
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}

// one is the row of a key with one value.
func one[T any](key string, f format[T], field func(*Settings) *T, help string) Setting {
	return Setting{
		Key: key, Help: help, Placeholder: f.placeholder, Want: f.want,
		set: func(s *Settings, path string, values []scalar) error {
			value, err := f.read(path, s.home, values[len(values)-1])
			if err != nil {
				return err
			}
			*field(s) = value
			return nil
		},
		get: func(s *Settings) []string { return []string{f.print(*field(s))} },
	}
}

// many is the row of a key with a list of values.
func many[T any](key string, f format[T], field func(*Settings) *[]T, help string) Setting {
	return Setting{
		Key: key, Help: help, Placeholder: f.placeholder + ",...", Want: f.want, list: true,
		set: func(s *Settings, path string, values []scalar) error {
			var list []T
			for _, v := range values {
				value, err := f.read(path, s.home, v)
				if err != nil {
					return err
				}
				list = append(list, value)
			}
			*field(s) = list
			return nil
		},
		get: func(s *Settings) []string {
			var printed []string
			for _, value := range *field(s) {
				printed = append(printed, f.print(value))
			}
			return printed
		},
	}
}

// The formats of texts, by what they name. The packages' Validate hold them to it.
var (
	files       = fileNames("the name of a file that can be read")
	newFiles    = fileNames("the name of a file that can be written")
	listenAddrs = texts("HOST:PORT", "host:port such as :9090")
	lines       = texts("TEXT", "text (in quotes where it looks like a number)")
	urls        = texts("URL", "an http or https URL")
	logTypes    = texts("text|json", "text or json")
)

// table has a row for every key, in the order of the documentation. Flags, environment variables, help, the example
// file and the documentation come from it; the defaults are those of the packages.
var table = []Setting{
	one("listener.type", texts("http|https", "http or https"), func(s *Settings) *string { return &s.listener.Type },
		"what clients speak to the proxy"),
	one("listener.address", listenAddrs, func(s *Settings) *string { return &s.listener.Address },
		"where clients connect to; an empty host is every address of this host"),
	one("listener.certFile", files, func(s *Settings) *string { return &s.listener.CertFile },
		"PEM certificate chain of an https listener"),
	one("listener.keyFile", files, func(s *Settings) *string { return &s.listener.KeyFile },
		"PEM private key of an https listener"),
	one("listener.clientCAFile", files, func(s *Settings) *string { return &s.listener.ClientCAFile },
		"PEM certificates of the CA that a client's own certificate has to come from; empty asks for none"),
	one("listener.reusePort", booleans, func(s *Settings) *bool { return &s.listener.ReusePort },
		"let a second instance of the same user listen on the same address (SO_REUSEPORT)"),
	one("listener.proxyProtocol", booleans, func(s *Settings) *bool { return &s.listener.ProxyProtocol },
		"take PROXY protocol v1 and v2 from the peers in proxyProtocolFrom"),
	many("listener.proxyProtocolFrom", prefixes, func(s *Settings) *[]netip.Prefix { return &s.listener.ProxyProtocolFrom },
		"networks of the load balancers that speak PROXY protocol"),
	{Key: "listeners", Structure: true, Want: "a list of mappings with the keys of listener",
		Help: "a list of endpoints with the keys of listener, instead of listener"},
	one("clientTimeout", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ClientTimeout },
		"how long a client may take over a request's head, or pause within its body or the TLS handshake"),
	one("clientIdleTimeout", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ClientIdleTimeout },
		"how long a client's connection may rest between requests"),
	one("connectTimeout", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ConnectTimeout },
		"resolving the name and connecting TCP, over all its addresses together; the TLS handshake has as long again"),
	one("connectionLifetime", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ConnectionLifetime },
		"how long a connection to a destination may live: at this age it is closed, even mid-response; a tunnel that is busy, at twice this age"),
	one("readTimeout", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ReadTimeout },
		"how long a connection to a destination may be idle"),
	one("maxResponseBodySize", sizes, func(s *Settings) *int64 { return &s.Proxy.MaxResponseBodySize },
		"the largest response body"),
	one("maxRequestBodySize", sizes, func(s *Settings) *int64 { return &s.Proxy.MaxRequestBodySize },
		"the largest request body, which is read in full before its destination is contacted"),
	one("maxBufferedBytes", sizes, func(s *Settings) *int64 { return &s.Proxy.MaxBufferedBytes },
		"memory for request bodies over all clients, counted as it fills").
		inWords("256MiB, or a quarter of the memory that there is where that is less, but at least maxRequestBodySize"),
	one("maxHeaderSize", headSizes, func(s *Settings) *int64 { return &s.Proxy.MaxHeaderSize },
		"the largest request or response head, and of trailers; 256 bytes to 16MiB"),
	one("maxConnections", counts, func(s *Settings) *int { return &s.Proxy.MaxConnections },
		"client connections at once, over all listeners"),
	one("maxConnectionsPerDestination", counts, func(s *Settings) *int { return &s.Proxy.MaxConnectionsPerDestination },
		"connections in use to one destination (host and port) at once"),
	many("cidrDenyList", prefixes, func(s *Settings) *[]netip.Prefix { return &s.Guard.DenyList },
		"more addresses to refuse, on top of the built-in ones; beats cidrAllowList"),
	many("cidrAllowList", prefixes, func(s *Settings) *[]netip.Prefix { return &s.Guard.AllowList },
		"exceptions to the built-in ones: a private network that may be reached"),
	many("portDenyList", ports, func(s *Settings) *[]uint16 { return &s.Guard.PortDenyList },
		"destination ports to refuse, instead of the bad ports of the WHATWG Fetch standard"),
	one("insecureSkipCidrDenyList", booleans, func(s *Settings) *bool { return &s.Guard.InsecureSkipDenyList },
		"let every address through (tests only)"),
	one("insecureSkipCertVerification", booleans, func(s *Settings) *bool { return &s.CA.InsecureSkipVerify },
		"accept any certificate of a destination (tests only)"),
	many("dns.servers", servers, func(s *Settings) *[]netip.AddrPort { return &s.Guard.DNSServers },
		"resolvers to ask instead of the system's"),
	one("dns.cacheTTL", durationsFromZero, func(s *Settings) *time.Duration { return &s.Guard.DNSCacheTTL },
		"the longest that an answer is reused; 0s: never"),
	one("clientCertFile", files, func(s *Settings) *string { return &s.CA.ClientCert.CertFile },
		"PEM certificate chain presented to destinations that ask for one (mutual TLS)"),
	one("clientKeyFile", files, func(s *Settings) *string { return &s.CA.ClientCert.KeyFile },
		"PEM private key of clientCertFile"),
	{Key: "clientCerts", Structure: true, Want: "a mapping of aliases such as {acme: {certFile: acme.pem, keyFile: acme.key}}",
		Help: "more client certificates, by the alias that X-WhSentry-ClientCert names"},
	one("clientCertHeader", booleans, func(s *Settings) *bool { return &s.Proxy.ClientCertHeader },
		"whether X-WhSentry-ClientCert is obeyed; false: it is dropped without effect"),
	one("incompleteResponses", choices(proxy.IncompleteError, proxy.IncompletePass), func(s *Settings) *string { return &s.Proxy.IncompleteResponses },
		"what a client gets where a response's body was too large, cut or broken: error: 502; pass: the status with what came of it"),
	one("reasonText", choices("full", "generic"), func(s *Settings) *string { return &s.Proxy.Answers.Text },
		"generic: the texts that clients see name no address; the logs keep the full ones"),
	many("errorHeaders", choices("whsentry", "proxy-status", "envoy"), func(s *Settings) *[]string { return &s.Proxy.Answers.ErrorHeaders },
		"which fields the proxy's own answers carry, beside reason and code"),
	{Key: "clients", Structure: true, Want: "a list of clients, each with a name",
		Help: "who may send, and where; without it everybody who reaches a listener"},
	{Key: "destinations", Structure: true, Want: "a list of rules, each with hosts",
		Help: "rules for some destinations: addresses, trust, certificates, limits"},
	one("breaker.failures", counts, func(s *Settings) *int { return &s.Policy.Breaker.Failures },
		"after so many failures in a row to reach one destination its requests are refused for a while; 0: never"),
	one("breaker.openFor", openDurations, func(s *Settings) *time.Duration { return &s.Policy.Breaker.OpenFor },
		"how long they are refused at first, at most 10m; then one is let through"),
	one("connect.mode", texts("tunnel|mitm|deny", "tunnel, mitm or deny"), func(s *Settings) *string { return &s.Proxy.ConnectMode },
		"what CONNECT does; mitm where mitmIssuerCertFile is set"),
	one("connect.plain", choices(proxy.PlainInspect, proxy.PlainOpaque), func(s *Settings) *string { return &s.Proxy.ConnectPlain },
		"a tunnel whose client begins with an HTTP request: served like any request (inspect), or as bytes (opaque)"),
	many("connect.ports", ports, func(s *Settings) *[]uint16 { return &s.Proxy.ConnectPorts },
		"ports that CONNECT may reach; empty: any that the guard allows"),
	one("mitmIssuerCertFile", files, func(s *Settings) *string { return &s.CA.MITMIssuer.CertFile },
		"PEM certificate of the CA that signs certificates for intercepted tunnels"),
	one("mitmIssuerKeyFile", files, func(s *Settings) *string { return &s.CA.MITMIssuer.KeyFile },
		"PEM private key of mitmIssuerCertFile"),
	one("caBundle.file", newFiles, func(s *Settings) *string { return &s.CA.Bundle.File },
		"where the newest downloaded bundle of roots is kept; empty keeps none").inWords("whsentry/cacert.pem under the user's cache folder"),
	one("caBundle.url", urls, func(s *Settings) *string { return &s.CA.Bundle.URL },
		"where newer Mozilla bundles come from, http or https; empty never downloads"),
	one("caBundle.refreshInterval", durationsAboveZero, func(s *Settings) *time.Duration { return &s.CA.Bundle.RefreshInterval },
		"how often to look again after start-up"),
	one("caBundle.extraFile", files, func(s *Settings) *string { return &s.CA.Bundle.ExtraFile },
		"PEM file of further roots to trust (a private CA)"),
	one("caBundle.fetchIntermediates", booleans, func(s *Settings) *bool { return &s.CA.Bundle.FetchIntermediates },
		"fetch the intermediate certificate that a destination fails to send, as its certificate says (AIA)"),
	one("watchFiles", durationsFromZero, func(s *Settings) *time.Duration { return &s.CA.WatchFiles },
		"how often the certificate, key and CA files are looked at for changes; 0s: only at SIGHUP"),
	many("egress.addresses", addresses, func(s *Settings) *[]netip.Addr { return &s.Guard.EgressAddresses },
		"source addresses for connections to destinations; empty leaves the choice to the system"),
	one("userAgent", lines, func(s *Settings) *string { return &s.Proxy.UserAgent },
		"the User-Agent that every forwarded request carries; empty: the client's own, or none"),
	one("requestIDHeader", lines, func(s *Settings) *string { return &s.Proxy.RequestIDHeader },
		"request header whose value is the request's id in the logs; generated where absent"),
	one("accessLog.type", logTypes, func(s *Settings) *string { return &s.Proxy.AccessLog.Type },
		"how requests are logged"),
	one("accessLog.file", newFiles, func(s *Settings) *string { return &s.Proxy.AccessLog.File },
		"where requests are logged, appended to; empty is standard output"),
	one("accessLog.url", texts("full|path|host", "full, path or host"), func(s *Settings) *string { return &s.Proxy.AccessLog.URL },
		"how much of a URL is logged; path leaves the query out"),
	one("proxyLog.type", logTypes, func(s *Settings) *string { return &s.Log.Type },
		"how the proxy logs what it does itself"),
	one("proxyLog.file", newFiles, func(s *Settings) *string { return &s.Log.File },
		"where it logs that, appended to; empty is standard output"),
	one("proxyLog.level", texts("debug|info|warn|error", "debug, info, warn or error"), func(s *Settings) *string { return &s.Log.Level },
		"the least level that it logs"),
	one("metrics.address", listenAddrs, func(s *Settings) *string { return &s.Proxy.Metrics.Address },
		"where metrics and health are served; empty: nowhere"),
	many("metrics.hosts", hostNames, func(s *Settings) *[]string { return &s.Proxy.Metrics.Hosts },
		"host names that the status page answers to, beside addresses and names that no stranger can own"),
	one("shutdownTimeout", durationsAboveZero, func(s *Settings) *time.Duration { return &s.Proxy.ShutdownTimeout },
		"how long a stopping proxy lets running requests finish"),
}

func Default() *Settings {
	return &Settings{
		Guard:    guard.DefaultConfig(),
		CA:       ca.DefaultConfig(),
		Proxy:    proxy.DefaultConfig(),
		Log:      defaultLogConfig(),
		listener: listen.DefaultConfig(),
		origin:   make(map[string]string),

		Policy: policy.Config{Breaker: policy.BreakerConfig{OpenFor: 30 * time.Second}},
	}
}
