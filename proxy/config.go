package proxy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"whsentry/proxy/accesslog"
	"whsentry/proxy/admin"
	"whsentry/proxy/destination"
	"whsentry/proxy/http1"
	"whsentry/proxy/listen"
	"whsentry/proxy/reason"
)

// Config is what an operator may change about the proxy. Its keys are those of the configuration file.
type Config struct {
	// Listeners (listener, listeners) are the endpoints that clients connect to; at least one.
	Listeners []listen.Config
	// ClientTimeout (clientTimeout) bounds a request's head, a pause within its body, a TLS handshake and a
	// pause in reading a response. Above 0.
	ClientTimeout time.Duration
	// ClientIdleTimeout (clientIdleTimeout) is how long a client's connection may rest between requests. Above 0.
	ClientIdleTimeout time.Duration
	// Limits are those of destinations whose entry does not say otherwise, or which have none.
	destination.Limits
	// MaxRequestBodySize (maxRequestBodySize) in bytes; 0 allows only empty bodies.
	MaxRequestBodySize int64
	// MaxBufferedBytes (maxBufferedBytes) is the memory for request bodies over all clients, in bytes.
	MaxBufferedBytes int64
	// MaxHeaderSize (maxHeaderSize) is the largest head, and the largest trailer section, in bytes. 256 to 16 MiB.
	MaxHeaderSize int64
	// MaxConnections (maxConnections) is the most client connections at once. Above 0.
	MaxConnections int
	// ConnectMode (connect.mode) is what CONNECT does: one of ConnectTunnel, ConnectMITM and ConnectDeny.
	ConnectMode string
	// ConnectPlain (connect.plain) is what becomes of a tunnel whose client begins with an HTTP request: PlainInspect or
	// PlainOpaque.
	ConnectPlain string
	// ConnectPorts (connect.ports) are the ports that CONNECT may reach; empty: any that the guard allows.
	ConnectPorts []uint16
	// ClientCertHeader (clientCertHeader) says whether X-WhSentry-ClientCert is obeyed, or dropped without effect.
	ClientCertHeader bool
	// IncompleteResponses (incompleteResponses) is what a client gets of a response whose body did not come whole:
	// IncompleteError, or IncompletePass: the destination's status with what came of the body.
	IncompleteResponses string
	// UserAgent (userAgent) replaces every request's User-Agent; "" leaves the client's own, or none.
	UserAgent string
	// RequestIDHeader (requestIDHeader) is the request header whose value becomes the request's id in the
	// logs; "", or a request without it, gets a generated one.
	RequestIDHeader string
	// AccessLog (accessLog) is where and how requests are logged.
	AccessLog accesslog.Config
	// Answers (reasonText, errorHeaders) is how the proxy's own answers look.
	Answers reason.Config
	// Metrics (metrics) is where metrics, health and the status page are served.
	Metrics admin.Config
	// ShutdownTimeout (shutdownTimeout) is how long Shutdown lets running requests finish. Above 0.
	ShutdownTimeout time.Duration
}

// The values of Config.ConnectMode.
const (
	ConnectTunnel, ConnectMITM, ConnectDeny = "tunnel", "mitm", "deny"
)

// The values of Config.IncompleteResponses.
const (
	IncompleteError, IncompletePass = "error", "pass"
)

// The values of Config.ConnectPlain.
const (
	PlainInspect, PlainOpaque = "inspect", "opaque"
)

const (
	kiB = 1 << 10
	miB = 1 << 20

	// MinHeaderSize and MaxHeaderSize bound Config.MaxHeaderSize, in bytes.
	MinHeaderSize = 256
	MaxHeaderSize = 16 * miB
)

// DefaultConfig returns the defaults of every key.
func DefaultConfig() Config {
	return Config{
		Listeners:           []listen.Config{listen.DefaultConfig()},
		ClientTimeout:       10 * time.Second,
		ClientIdleTimeout:   2 * time.Minute,
		Limits:              destination.DefaultLimits(),
		MaxRequestBodySize:  10 * miB,
		MaxBufferedBytes:    256 * miB,
		MaxHeaderSize:       64 * kiB,
		MaxConnections:      16384,
		ConnectMode:         ConnectTunnel,
		ClientCertHeader:    true,
		IncompleteResponses: IncompleteError,
		ConnectPlain:        PlainInspect,
		UserAgent:           "Webhook Sentry/0.1",
		RequestIDHeader:     "Request-ID",
		AccessLog:           accesslog.DefaultConfig(),
		Answers:             reason.DefaultConfig(),
		Metrics:             admin.Config{Address: ":2112"},
		ShutdownTimeout:     30 * time.Second,
	}
}

// Validate reports the first setting that cannot be used as "key: value: problem; want what is accepted". The keys
// of an endpoint are listeners[0].address and so on, counted from 0. Files are not opened.
func (c *Config) Validate() error {
	for _, check := range []func() error{
		c.validateListeners, c.validateDurations, c.validateSizes, c.validateConnect, c.validateHeaders, c.validateLogs, c.validateAnswers,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateListeners() error {
	if len(c.Listeners) == 0 {
		return invalid("listeners", "", "empty", "at least one endpoint")
	}
	for i := range c.Listeners {
		if err := c.Listeners[i].Validate("listeners[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	if c.Metrics.Address != "" {
		if err := listen.ValidateAddress(metricsKey, c.Metrics.Address); err != nil {
			return err
		}
	}
	return listen.ValidateDistinct(c.endpoints())
}

const metricsKey = "metrics.address"

// endpoints are those of the listeners, in their order, and then that of the metrics, where there is one.
func (c *Config) endpoints() []listen.Endpoint {
	var all []listen.Endpoint
	for i, l := range c.Listeners {
		all = append(all, listen.Endpoint{Key: fmt.Sprintf("listeners[%d].address", i), Address: l.Address})
	}
	if c.Metrics.Address != "" {
		all = append(all, listen.Endpoint{Key: metricsKey, Address: c.Metrics.Address})
	}
	return all
}

func (c *Config) validateDurations() error {
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"clientTimeout", c.ClientTimeout},
		{"clientIdleTimeout", c.ClientIdleTimeout},
		{"connectTimeout", c.ConnectTimeout},
		{"connectionLifetime", c.ConnectionLifetime},
		{"readTimeout", c.ReadTimeout},
		{"shutdownTimeout", c.ShutdownTimeout},
	} {
		if d.value <= 0 {
			return invalid(d.key, d.value.String(), "not above 0", "a duration such as 10s")
		}
	}
	return nil
}

func (c *Config) validateSizes() error {
	for _, n := range []struct {
		key             string
		value, min, max int64
		want            string
	}{
		{"maxResponseBodySize", c.MaxResponseBodySize, 0, math.MaxInt64, "0 bytes or more"},
		{"maxRequestBodySize", c.MaxRequestBodySize, 0, math.MaxInt64, "0 bytes or more"},
		{"maxBufferedBytes", c.MaxBufferedBytes, 0, math.MaxInt64, "0 bytes or more"},
		{"maxHeaderSize", c.MaxHeaderSize, MinHeaderSize, MaxHeaderSize, "256 bytes to 16MiB"},
		{"maxConnections", int64(c.MaxConnections), 1, math.MaxInt32, "1 to 2147483647"},
		{"maxConnectionsPerDestination", int64(c.MaxConnectionsPerDestination), 1, math.MaxInt32, "1 to 2147483647"},
	} {
		if n.value < n.min || n.value > n.max {
			return invalid(n.key, strconv.FormatInt(n.value, 10), "out of range", n.want)
		}
	}
	return nil
}

func (c *Config) validateConnect() error {
	if slices.Contains(c.ConnectPorts, 0) {
		return invalid("connect.ports", "0", "not a port", "1 to 65535")
	}
	if err := oneOf("connect.plain", c.ConnectPlain, PlainInspect, PlainOpaque); err != nil {
		return err
	}
	return oneOf("connect.mode", c.ConnectMode, ConnectTunnel, ConnectMITM, ConnectDeny)
}

// validateHeaders keeps out what would break the head of every request that the proxy sends or reads.
func (c *Config) validateHeaders() error {
	const text = "the text of a header, without control characters or spaces around it"
	if ua := c.UserAgent; !http1.IsValue([]byte(ua)) || strings.Trim(ua, " \t") != ua {
		return invalid("userAgent", ua, "not what a header may hold", text)
	}
	if name := c.RequestIDHeader; name != "" && !http1.IsToken([]byte(name)) {
		return invalid("requestIDHeader", name, "not a header's name", "letters, digits and hyphens")
	}
	for _, secret := range []string{"authorization", "proxy-authorization", "cookie"} {
		if strings.EqualFold(c.RequestIDHeader, secret) {
			return invalid("requestIDHeader", c.RequestIDHeader, "a header of secrets, which would be logged", "another header")
		}
	}
	return nil
}

func (c *Config) validateLogs() error {
	if err := oneOf("accessLog.type", c.AccessLog.Type, accesslog.Text, accesslog.JSON); err != nil {
		return err
	}
	return oneOf("accessLog.url", c.AccessLog.URL, accesslog.URLFull, accesslog.URLPath, accesslog.URLHost)
}

func (c *Config) validateAnswers() error {
	for _, list := range c.Answers.ErrorHeaders {
		if err := oneOf("errorHeaders", list, reason.HeadersWhsentry, reason.HeadersProxyStatus, reason.HeadersEnvoy); err != nil {
			return err
		}
	}
	if err := oneOf("incompleteResponses", c.IncompleteResponses, IncompleteError, IncompletePass); err != nil {
		return err
	}
	return oneOf("reasonText", c.Answers.Text, reason.TextFull, reason.TextGeneric)
}

func oneOf(key, value string, accepted ...string) error {
	if slices.Contains(accepted, value) {
		return nil
	}
	last := len(accepted) - 1
	return invalid(key, value, "not known", strings.Join(accepted[:last], ", ")+" or "+accepted[last])
}

func invalid(key, value, problem, want string) error {
	return fmt.Errorf("%s: %q: %s; want %s", key, value, problem, want)
}
