package main

import (
	"net/netip"
	"strings"
	"time"
	"unicode"

	"whsentry/ca"
	"whsentry/guard"
	"whsentry/proxy"
)

// settings is everything that can be configured, by the package that it is for.
type settings struct {
	guard guard.Config
	ca    ca.Config
	proxy proxy.Config
	log   logConfig

	// listener is proxy.Listeners' one endpoint where the key listeners is not set.
	listener proxy.ListenerConfig

	// origin says where each key that is set was set, in the words of an error: config.yaml:12. Beside the keys of
	// the table it has those within structures: listeners[1].address.
	origin map[string]string
}

// setting is one row of the table: a key, and everything that is to be known of it.
type setting struct {
	key         string // as in the YAML file: dns.cacheTTL
	help        string // one line, with the unit
	placeholder string // stands for a value in --help; "" for a boolean, whose flag needs none
	want        string // what is accepted
	list        bool
	// structure marks a mapping or a list of them, which only the file can hold; set and get are nil.
	structure bool

	// set stores values, of which there is one but for a list. path is the key as the user sees it, for errors.
	set func(s *settings, path string, values []scalar) error
	// get returns what s holds, in a form that set accepts.
	get func(s *settings) []string
}

// flag is the key's name on the command line: --dns-cache-ttl.
func (st *setting) flag() string { return "--" + kebab(st.key) }

// variable is the key's name in the environment: WHSENTRY_DNS_CACHE_TTL.
func (st *setting) variable() string {
	return "WHSENTRY_" + strings.ToUpper(strings.ReplaceAll(kebab(st.key), "-", "_"))
}

// boolean reports whether the setting is a flag that needs no value.
func (st *setting) boolean() bool { return st.placeholder == "" }

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

// nearest returns the one of names that name was most likely meant to be, or "" where none is like it.
func nearest(name string, names []string) string {
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
func one[T any](key string, f format[T], field func(*settings) *T, help string) setting {
	return setting{
		key: key, help: help, placeholder: f.placeholder, want: f.want,
		set: func(s *settings, path string, values []scalar) error {
			value, err := f.read(path, values[len(values)-1])
			if err != nil {
				return err
			}
			*field(s) = value
			return nil
		},
		get: func(s *settings) []string { return []string{f.print(*field(s))} },
	}
}

// many is the row of a key with a list of values.
func many[T any](key string, f format[T], field func(*settings) *[]T, help string) setting {
	return setting{
		key: key, help: help, placeholder: f.placeholder + ",...", want: f.want, list: true,
		set: func(s *settings, path string, values []scalar) error {
			var list []T
			for _, v := range values {
				value, err := f.read(path, v)
				if err != nil {
					return err
				}
				list = append(list, value)
			}
			*field(s) = list
			return nil
		},
		get: func(s *settings) []string {
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
	files       = texts("FILE", "the name of a file that can be read, as text")
	newFiles    = texts("FILE", "the name of a file that can be written, as text")
	listenAddrs = texts("HOST:PORT", "host:port such as :9090, as text")
	lines       = texts("TEXT", "text (in quotes where it looks like a number)")
	urls        = texts("URL", "an http or https URL, as text")
	logTypes    = texts("text|json", "text or json")
)

// table has a row for every key, in the order of the documentation. Flags, environment variables, help, the example
// file and the documentation come from it; the defaults are those of the packages.
var table = []setting{
	one("listener.type", texts("http|https", "http or https"), func(s *settings) *string { return &s.listener.Type },
		"what clients speak to the proxy"),
	one("listener.address", listenAddrs, func(s *settings) *string { return &s.listener.Address },
		"where clients connect to; an empty host is every address of this host"),
	one("listener.certFile", files, func(s *settings) *string { return &s.listener.CertFile },
		"PEM certificate chain of an https listener"),
	one("listener.keyFile", files, func(s *settings) *string { return &s.listener.KeyFile },
		"PEM private key of an https listener"),
	one("listener.clientCAFile", files, func(s *settings) *string { return &s.listener.ClientCAFile },
		"PEM certificates of the CA that a client's own certificate has to come from; empty asks for none"),
	one("listener.reusePort", booleans, func(s *settings) *bool { return &s.listener.ReusePort },
		"let a second instance listen on the same address"),
	one("listener.proxyProtocol", booleans, func(s *settings) *bool { return &s.listener.ProxyProtocol },
		"take PROXY protocol v1 and v2 from the peers in proxyProtocolFrom"),
	many("listener.proxyProtocolFrom", prefixes, func(s *settings) *[]netip.Prefix { return &s.listener.ProxyProtocolFrom },
		"networks of the load balancers that speak PROXY protocol"),
	{key: "listeners", structure: true, want: "a list of mappings with the keys of listener",
		help: "a list of endpoints with the keys of listener, instead of listener"},
	one("clientTimeout", durations, func(s *settings) *time.Duration { return &s.proxy.ClientTimeout },
		"how long a client may take over a request's head, or pause within its body or the TLS handshake"),
	one("clientIdleTimeout", durations, func(s *settings) *time.Duration { return &s.proxy.ClientIdleTimeout },
		"how long a client's connection may rest between requests"),
	one("connectTimeout", durations, func(s *settings) *time.Duration { return &s.proxy.ConnectTimeout },
		"resolving the name and connecting TCP, over all its addresses together; the TLS handshake has as long again"),
	one("connectionLifetime", durations, func(s *settings) *time.Duration { return &s.proxy.ConnectionLifetime },
		"how long a connection to a destination may live: at this age it is closed, even mid-response"),
	one("readTimeout", durations, func(s *settings) *time.Duration { return &s.proxy.ReadTimeout },
		"how long a connection to a destination may be idle"),
	one("maxResponseBodySize", sizes, func(s *settings) *int64 { return &s.proxy.MaxResponseBodySize },
		"the largest response body"),
	one("maxRequestBodySize", sizes, func(s *settings) *int64 { return &s.proxy.MaxRequestBodySize },
		"the largest request body, which is read in full before its destination is contacted"),
	one("maxBufferedBytes", sizes, func(s *settings) *int64 { return &s.proxy.MaxBufferedBytes },
		"memory for request bodies over all clients"),
	one("maxHeaderSize", sizes, func(s *settings) *int64 { return &s.proxy.MaxHeaderSize },
		"the largest request or response head, and of trailers; 256 bytes to 16MiB"),
	one("maxConnections", counts, func(s *settings) *int { return &s.proxy.MaxConnections },
		"client connections at once, over all listeners"),
	one("maxConnectionsPerDestination", counts, func(s *settings) *int { return &s.proxy.MaxConnectionsPerDestination },
		"connections in use to one destination (host and port) at once"),
	many("cidrDenyList", prefixes, func(s *settings) *[]netip.Prefix { return &s.guard.DenyList },
		"more addresses to refuse, on top of the built-in ones; beats cidrAllowList"),
	many("cidrAllowList", prefixes, func(s *settings) *[]netip.Prefix { return &s.guard.AllowList },
		"exceptions to the built-in ones: a private network that may be reached"),
	many("portDenyList", ports, func(s *settings) *[]uint16 { return &s.guard.PortDenyList },
		"destination ports to refuse, instead of the bad ports of the WHATWG Fetch standard"),
	one("insecureSkipCidrDenyList", booleans, func(s *settings) *bool { return &s.guard.InsecureSkipDenyList },
		"let every address through (tests only)"),
	one("insecureSkipCertVerification", booleans, func(s *settings) *bool { return &s.ca.InsecureSkipVerify },
		"accept any certificate of a destination (tests only)"),
	many("dns.servers", servers, func(s *settings) *[]netip.AddrPort { return &s.guard.DNSServers },
		"resolvers to ask instead of the system's"),
	one("dns.cacheTTL", durations, func(s *settings) *time.Duration { return &s.guard.DNSCacheTTL },
		"the longest that an answer is reused; 0s: never"),
	one("clientCertFile", files, func(s *settings) *string { return &s.ca.ClientCert.CertFile },
		"PEM certificate chain presented to destinations that ask for one (mutual TLS)"),
	one("clientKeyFile", files, func(s *settings) *string { return &s.ca.ClientCert.KeyFile },
		"PEM private key of clientCertFile"),
	{key: "clientCerts", structure: true, want: "a mapping of aliases such as {acme: {certFile: acme.pem, keyFile: acme.key}}",
		help: "more client certificates, by the alias that X-WhSentry-ClientCert names"},
	one("connect.mode", texts("tunnel|mitm|deny", "tunnel, mitm or deny"), func(s *settings) *string { return &s.proxy.ConnectMode },
		"what CONNECT does; mitm where mitmIssuerCertFile is set"),
	many("connect.ports", ports, func(s *settings) *[]uint16 { return &s.proxy.ConnectPorts },
		"ports that CONNECT may reach; empty: any that the guard allows"),
	one("mitmIssuerCertFile", files, func(s *settings) *string { return &s.ca.MITMIssuer.CertFile },
		"PEM certificate of the CA that signs certificates for intercepted tunnels"),
	one("mitmIssuerKeyFile", files, func(s *settings) *string { return &s.ca.MITMIssuer.KeyFile },
		"PEM private key of mitmIssuerCertFile"),
	one("caBundle.file", newFiles, func(s *settings) *string { return &s.ca.Bundle.File },
		"where the newest downloaded bundle of roots is kept; empty keeps none"),
	one("caBundle.url", urls, func(s *settings) *string { return &s.ca.Bundle.URL },
		"where newer Mozilla bundles come from, http or https; empty never downloads"),
	one("caBundle.refreshInterval", durations, func(s *settings) *time.Duration { return &s.ca.Bundle.RefreshInterval },
		"how often to look again after start-up"),
	one("caBundle.extraFile", files, func(s *settings) *string { return &s.ca.Bundle.ExtraFile },
		"PEM file of further roots to trust (a private CA)"),
	many("egress.addresses", addresses, func(s *settings) *[]netip.Addr { return &s.guard.EgressAddresses },
		"source addresses for connections to destinations; empty leaves the choice to the system"),
	one("userAgent", lines, func(s *settings) *string { return &s.proxy.UserAgent },
		"the User-Agent that every forwarded request carries; empty: the client's own, or none"),
	one("requestIDHeader", lines, func(s *settings) *string { return &s.proxy.RequestIDHeader },
		"request header whose value is the request's id in the logs; generated where absent"),
	one("accessLog.type", logTypes, func(s *settings) *string { return &s.proxy.AccessLog.Type },
		"how requests are logged"),
	one("accessLog.file", newFiles, func(s *settings) *string { return &s.proxy.AccessLog.File },
		"where requests are logged, appended to; empty is standard output"),
	one("accessLog.url", texts("full|path|host", "full, path or host"), func(s *settings) *string { return &s.proxy.AccessLog.URL },
		"how much of a URL is logged; path leaves the query out"),
	one("proxyLog.type", logTypes, func(s *settings) *string { return &s.log.Type },
		"how the proxy logs what it does itself"),
	one("proxyLog.file", newFiles, func(s *settings) *string { return &s.log.File },
		"where it logs that, appended to; empty is standard output"),
	one("proxyLog.level", texts("debug|info|warn|error", "debug, info, warn or error"), func(s *settings) *string { return &s.log.Level },
		"the least level that it logs"),
	one("metrics.address", listenAddrs, func(s *settings) *string { return &s.proxy.MetricsAddress },
		"where metrics and health are served; empty: nowhere"),
	one("shutdownTimeout", durations, func(s *settings) *time.Duration { return &s.proxy.ShutdownTimeout },
		"how long a stopping proxy lets running requests finish"),
}

func defaultSettings() *settings {
	return &settings{
		guard:    guard.DefaultConfig(),
		ca:       ca.DefaultConfig(),
		proxy:    proxy.DefaultConfig(),
		log:      defaultLogConfig(),
		listener: proxy.DefaultListenerConfig(),
		origin:   make(map[string]string),
	}
}
