package command

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"whsentry/ca"
	"whsentry/internal/settings"
	"whsentry/policy"
	"whsentry/proxy/destination"
)

// caCommands returns the commands about the trust store.
func (a *app) caCommands() []*cli.Command {
	return []*cli.Command{
		{Name: "list", Action: a.caList,
			Usage: "list the roots that are trusted, how old they are and where they came from"},
		{Name: "update", Action: a.caUpdate,
			Usage: "fetch a newer bundle of roots now"},
		{Name: "check", ArgsUsage: "URL", Action: a.caCheck,
			Usage: "show the certificates of a TLS destination, and why they are trusted or not"},
	}
}

// trustStore reads the trust store that settings describe. It asks nobody for a newer one.
func (a *app) trustStore(s *settings.Settings) (*ca.Store, error) {
	dial, err := dialStrangers(s.Guard)
	if err != nil {
		return nil, s.Locate(err)
	}
	store, err := ca.New(s.CA, ca.Hooks{Warn: a.warn, Dial: dial})
	if err != nil {
		return nil, s.Locate(err)
	}
	return store, nil
}

// loadStore loads the settings, and the trust store that they make.
func (a *app) loadStore() (*settings.Settings, *ca.Store, error) {
	s, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	store, err := a.trustStore(s)
	return s, store, err
}

// caList prints a line for each root and one about all of them.
func (a *app) caList(c *cli.Context) error {
	s, store, err := a.loadStore()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, root := range store.Certificates() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n",
			root.NotAfter.UTC().Format(time.DateOnly), keyType(root), fingerprint(root), shown(root.Subject.String()))
	}
	summary := describeStore(store)
	if file := s.CA.Bundle.ExtraFile; file != "" {
		summary += "; with the roots of caBundle.extraFile " + settings.Quote(file)
	}
	fmt.Fprintln(w, summary)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the trust store: %w", err)
	}
	return nil
}

// describeStore says how many roots are trusted, how old they are and where they came from.
func describeStore(store *ca.Store) string {
	age := max(int(time.Since(store.Timestamp()).Hours()/24), 0)
	return fmt.Sprintf("%s, as of %s (%s old), %s",
		counted(store.Roots(), "root"), showTime(store.Timestamp()), counted(age, "day"), settings.Printable(store.Origin()))
}

// caUpdate looks for a newer bundle and keeps it for the proxies to come.
func (a *app) caUpdate(c *cli.Context) error {
	s, store, err := a.loadStore()
	if err != nil {
		return err
	}
	if s.CA.Bundle.URL == "" {
		return s.Locate(errors.New(`caBundle.url: "": newer bundles are never downloaded; want an http or https URL`))
	}
	before := describeStore(store)
	result, err := store.Update(context.Background()) // which takes 10 seconds at most
	switch {
	case err != nil:
		return err
	case result == ca.RefreshUnchanged:
		fmt.Fprintf(a.stdout, "unchanged: %s\n", before)
		return nil
	case s.CA.Bundle.File == "":
		return s.Locate(fmt.Errorf(`caBundle.file: "": there is a newer bundle (%s) and nowhere to keep it; want the name of a file that can be written`,
			describeStore(store)))
	}
	fmt.Fprintf(a.stdout, "updated: %s\nbefore: %s\n", describeStore(store), before)
	return nil
}

// caCheck connects to a TLS destination as the proxy would, and shows what it presents.
func (a *app) caCheck(c *cli.Context) error {
	s, err := a.load()
	if err != nil {
		return err
	}
	j, err := newJudging(s)
	if err != nil {
		return err
	}
	accepting := s.CA.InsecureSkipVerify
	s.CA.InsecureSkipVerify = false // to learn what the setting hides
	store, err := a.trustStore(s)
	if err != nil {
		return err
	}
	dest, err := tlsDestination(c.Args().First())
	if err != nil {
		return a.conclude(err, exitFailed)
	}
	to, err := a.applyEntry(j, store, dest)
	if err != nil {
		return err
	}
	limit := j.connectTimeout()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, _, err := j.dialer().Dial(ctx, dest.Host, dest.Port)
	if err != nil {
		return a.conclude(err, exitFailed)
	}
	defer func() { conn.Close() }()
	h := shakeHands(conn, store, to, limit, func(ctx context.Context) (net.Conn, error) {
		conn.Close()
		next, _, err := j.dialer().Dial(ctx, dest.Host, dest.Port)
		if err == nil {
			conn = next
		}
		return next, err
	})
	a.printChain(dest, conn.RemoteAddr(), h.chain)
	a.printCompleted(h)
	a.printClientCertificate(h, to.Alias)
	fmt.Fprintf(a.stdout, "trust store: %s\n", describeStore(store))
	if h.err == nil && h.pinned {
		fmt.Fprintf(a.stdout, "trusted: its key is one of the pins of %s\n", j.entryName())
		return nil
	}
	verdict, trusted := h.judge(dest.Host, limit, accepting)
	fmt.Fprintln(a.stdout, settings.Printable(verdict))
	if !trusted {
		return cli.Exit("", exitFailed)
	}
	return nil
}

// applyEntry says which entry of destinations applies, and returns with whom and as whom the handshake is made under it.
func (a *app) applyEntry(j *judging, store *ca.Store, dest destination.URL) (ca.Destination, error) {
	to := ca.Destination{Host: dest.Host, Port: dest.Port}
	if err := j.apply(dest); err != nil {
		return to, err
	}
	if j.entry != nil {
		fmt.Fprintf(a.stdout, "%s applies\n", j.entryName())
		to.Rules = store.Rules(j.entry.Index)
	}
	alias, verdict := j.policy.Alias(j.client, j.entry, ruleHost(dest), "")
	if verdict == policy.AliasNotHere {
		fmt.Fprintf(a.stdout, "refused: the client certificate of %s is not for this host (reason 1010, status 403)\n", j.entryName())
		return to, cli.Exit("", exitRefused)
	}
	if to.Alias = alias; alias == "" {
		to.Alias = ca.NoClientCert
	}
	return to, nil
}

// tlsDestination reads what ca check is given: an https URL, or what would stand between https:// and its end. The
// error is a *destination.URLError where the proxy would refuse it too.
func tlsDestination(text string) (destination.URL, error) {
	scheme, _, _ := strings.Cut(text, "/")
	switch addr := net.ParseIP(text); {
	case strings.EqualFold(scheme, "http:"):
		return destination.URL{}, fmt.Errorf("%s: http is without TLS, so there is no certificate; want an https URL, a host or host:port", settings.Quote(text))
	case strings.HasSuffix(scheme, ":"):
	case addr != nil && strings.Contains(text, ":"):
		text = "https://[" + text + "]"
	default:
		text = "https://" + text
	}
	return destination.ParseURL(text)
}

// handshake is what came to light while TLS was started with a destination.
type handshake struct {
	chain    []*x509.Certificate   // as the destination sent it
	verified [][]*x509.Certificate // from its certificate to a trusted root; none where it is not trusted
	asked    bool                  // it asked for a client certificate
	given    bool                  // and one is configured
	added    []ca.Added            // what it failed to send
	fetchErr error                 // why that could not be fetched
	pinned   bool                  // its key is one of the entry's pins
	classic  bool                  // it answers only a ClientHello without ML-KEM
	err      error
}

// shakeHands starts TLS on conn as the proxy does, or on what again connects, and reports what it saw.
func shakeHands(conn net.Conn, store *ca.Store, to ca.Destination, limit time.Duration, again func(context.Context) (net.Conn, error)) handshake {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client, seen, err := store.Check(ctx, conn, to, func() (net.Conn, error) { return again(ctx) })
	if err == nil {
		client.Close()
	}
	return handshake{chain: seen.Chain, verified: seen.Verified, added: seen.Added, fetchErr: seen.FetchErr, asked: seen.Asked, given: seen.Presented, pinned: seen.Pinned, classic: seen.Classic, err: err}
}

// judge says whether and why a destination is trusted. accepting is insecureSkipCertVerification.
func (h *handshake) judge(host string, limit time.Duration, accepting bool) (verdict string, trusted bool) {
	if h.err == nil {
		return fmt.Sprintf("trusted: valid for %s, issued under the root %s", host, strings.Join(h.roots(), " or ")), true
	}
	var (
		unverified *tls.CertificateVerificationError
		timeout    net.Error
	)
	certificate, text := ca.DescribeError(h.err, host)
	switch {
	case errors.As(h.err, &unverified) && accepting:
		return "trusted: only because insecureSkipCertVerification is set; else not: " + text, true
	case certificate:
		return fmt.Sprintf("not trusted: %s (reason 1007, status 502)", text), false
	case errors.As(h.err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("failed: timed out in the TLS handshake with %s after %s (reason 1004, status 502)", host, limit), false
	case h.asked && !h.given:
		text = "the server demands a client certificate and none is configured" // TLS 1.2 has no alert that says so
	}
	if len(h.verified) > 0 {
		text += "; its own certificate is trusted"
	}
	return fmt.Sprintf("failed: TLS handshake with %s failed: %s (reason 1005, status 502)", host, text), false
}

// roots returns the names of the roots that the destination's certificate leads to, each once.
func (h *handshake) roots() []string {
	var names []string
	have := make(map[string]bool)
	for _, path := range h.verified {
		root := path[len(path)-1]
		if !have[string(root.Raw)] {
			have[string(root.Raw)] = true
			names = append(names, shown(root.Subject.String()))
		}
	}
	return names
}

// printCompleted says what works only because we see to it, and what the server's people should mend.
func (a *app) printCompleted(h handshake) {
	for _, add := range h.added {
		fmt.Fprintf(a.stdout, "completed by us: the server does not send %s, which was fetched from %s; it should, for most clients do not fetch it\n",
			shown(add.Certificate.Subject.String()), shown(add.URL))
	}
	if h.fetchErr != nil {
		fmt.Fprintf(a.stdout, "not completed by us: the server does not send all of its chain: %s\n", settings.Printable(h.fetchErr.Error()))
	}
	if h.classic {
		fmt.Fprintln(a.stdout, "key exchange: the server does not answer a ClientHello with ML-KEM, which takes two segments; it was asked again without")
	}
}

func (a *app) printClientCertificate(h handshake, alias string) {
	if !h.asked {
		return
	}
	with := "none is configured (clientCertFile)"
	switch {
	case h.given && alias != ca.DefaultAlias:
		with = "that of clientCerts." + alias + " is presented"
	case h.given:
		with = "that of clientCertFile is presented"
	}
	fmt.Fprintf(a.stdout, "client certificate: the server asks for one; %s\n", with)
}

// printChain prints the certificates that a destination presents, its own first.
func (a *app) printChain(dest destination.URL, remote net.Addr, chain []*x509.Certificate) {
	const most = 10 // a sound chain has two or three
	name := net.JoinHostPort(dest.Host, strconv.Itoa(int(dest.Port)))
	fmt.Fprintf(a.stdout, "%s at %s presents %s\n", name, remote, counted(len(chain), "certificate"))
	for i, cert := range chain[:min(len(chain), most)] {
		printCertificate(a.stdout, i+1, cert)
	}
	if len(chain) > most {
		fmt.Fprintf(a.stdout, "  and %d more\n", len(chain)-most)
	}
}

func printCertificate(w io.Writer, number int, c *x509.Certificate) {
	fmt.Fprintf(w, "  %d. subject      %s\n", number, shown(c.Subject.String()))
	for _, line := range [][2]string{
		{"issuer", shown(c.Issuer.String())},
		{"names", certificateNames(c)},
		{"validity", showTime(c.NotBefore) + " to " + showTime(c.NotAfter)},
		{"key", keyType(c)},
		{"signature", c.SignatureAlgorithm.String()},
		{"fingerprint", fingerprint(c)},
	} {
		fmt.Fprintf(w, "     %-11s  %s\n", line[0], line[1])
	}
}

// certificateNames returns the names and addresses that a certificate is for. The Common Name is none (RFC 9525).
func certificateNames(c *x509.Certificate) string {
	const most = 100
	var names []string
	for _, name := range c.DNSNames {
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",\`, r) }) {
			name = settings.Quote(name) // what is no name must not look like two
		}
		names = append(names, shown(name))
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return shownOr(strings.Join(names, ", "), "none")
}

// keyType returns the kind and size of a certificate's key.
func keyType(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "of an unsupported type"
}

// fingerprint returns the SHA-256 digest of a certificate in hexadecimal.
func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }

// shown returns a name from a certificate for printing: on one line, and no longer than one can read.
func shown(name string) string {
	const longest = 300 // bytes; before they are escaped
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "..."
	}
	return shownOr(settings.Printable(name), "none")
}

func shownOr(text, none string) string {
	if text == "" {
		return none
	}
	return text
}

func showTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// counted returns a number with what it counts: 1 day, 2 days.
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}
