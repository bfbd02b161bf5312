package command

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"whsentry/internal/settings"
)

const (
	healthTimeout = 5 * time.Second // for the whole question
	maxHealthText = 200             // bytes of the answer that are shown
)

// healthEndpoints are what can be asked: whether the proxy takes work, the one that is asked by default, and whether it
// is alive.
var healthEndpoints = []string{"readyz", "healthz"}

// health asks a proxy that runs with the same settings on this host how it is, on metrics.address. It is for
// supervisors that can run a command and no more, in an image that has no other program.
func (a *app) health(c *cli.Context) error {
	endpoint := healthEndpoints[0]
	if c.Args().Present() {
		endpoint = c.Args().First()
	}
	if !slices.Contains(healthEndpoints, endpoint) {
		return fmt.Errorf("%s: not known; want one of %s", settings.Quote(endpoint), strings.Join(healthEndpoints, ", "))
	}
	s, err := a.load()
	if err != nil {
		return err
	}
	address, err := healthAddress(s.Proxy.Metrics.Address)
	if err != nil {
		return s.Locate(fmt.Errorf("metrics.address: %q: %w; want the address of a proxy that runs", s.Proxy.Metrics.Address, err))
	}
	answer, err := askHealth("http://" + address + "/" + endpoint)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, settings.Printable(answer))
	return nil
}

// healthAddress is where a proxy that serves metrics at address can be asked from its own host: on loopback, where it
// listens on every address.
func healthAddress(address string) (string, error) {
	if address == "" {
		return "", errors.New("metrics and health are off")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if port == "0" || port == "" {
		return "", errors.New("a port that is chosen at the start")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		if host = "127.0.0.1"; addr.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}

// askHealth returns what is answered at url, as one line. An answer other than 200 is an error.
func askHealth(url string) (string, error) {
	client := http.Client{
		// Whatever the environment says of proxies is not about this host.
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true, MaxResponseHeaderBytes: 1 << 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       healthTimeout,
	}
	response, err := client.Get(url)
	if err != nil {
		if timeout := (net.Error)(nil); errors.As(err, &timeout) && timeout.Timeout() {
			return "", fmt.Errorf("ask %s: no answer within %v", url, healthTimeout)
		}
		return "", fmt.Errorf("ask %s: %w", url, errors.Unwrap(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealthText))
	if err != nil {
		return "", fmt.Errorf("ask %s: read the answer: %w", url, err)
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask %s: %s: %s; want 200", url, response.Status, text)
	}
	return text, nil
}
