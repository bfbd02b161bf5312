package proxy

import (
	"crypto/tls"
	"net/netip"

	"whsentry/policy"
	"whsentry/proxy/downstream"
	"whsentry/proxy/upstream"
)

// rights are what an opaque tunnel rests on: whose it is, and where it was to go.
type rights struct {
	identity policy.Identity
	host     policy.Host
	port     uint16
}

// claim notes what the tunnel that begins rests on, so that it ends where that does.
func (ex *exchange) claim() {
	c := ex.client
	name := ex.address.Name()
	literal, _ := netip.ParseAddr(name)
	r := &rights{identity: ex.identity(), host: policy.NewHost(name, literal), port: ex.address.Port()}
	c.mu.Lock()
	c.rights = r
	c.mu.Unlock()
	if now := c.proxy.run.Load(); now != ex.run {
		c.recheck(now) // the settings have changed since it was judged
	}
}

// disclaim ends claim.
func (c *client) disclaim() {
	c.mu.Lock()
	c.rights = nil
	c.mu.Unlock()
}

// identity is who the request was found to be.
func (ex *exchange) identity() policy.Identity {
	if w := ex.client.within; w != nil {
		return w.identity
	}
	return ex.sender.Identity(&ex.client.peer, ex.credential())
}

// recheckTunnels closes the opaque tunnels of clients that are gone, or to what they may no longer reach.
func (p *Proxy) recheckTunnels() {
	run := p.run.Load()
	p.clients.Each(func(h downstream.Handler) { h.(*client).recheck(run) })
}

func (c *client) recheck(run *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rights != nil && c.up != nil && !(c.IsVerified() && run.grants(c.rights, c.up.Remote())) {
		c.up.Kill(upstream.CloseRetired)
	}
}

// grants reports whether a tunnel to remote may go on.
func (r *run) grants(of *rights, remote netip.AddrPort) bool {
	sender := r.policy.Recheck(&of.identity)
	if sender == nil || sender.Judge(of.host, of.port) == policy.Denied {
		return false
	}
	if sender.Name == "" {
		return true // requests in flight end under the settings that they began with
	}
	return r.guard.CheckAddr(remote, r.destinations.Exceptions(sender, r.destinations.Terms(of.host, of.port))) == nil
}

// ReplaceListener makes now what the listeners that use old speak TLS with, for the files that it was made of have
// changed. What rests on a CA that is no longer in use ends at its next request, tunnels at once.
func (p *Proxy) ReplaceListener(old, now *tls.Config) {
	for _, l := range p.clients.Listeners() {
		l.ReplaceTLS(old, now)
	}
	p.recheckTunnels()
}

// RetireInterceptions has the intercepted tunnels that there are end with their next answer, for the CA that has signed
// for them has changed.
func (p *Proxy) RetireInterceptions() { p.issuers.Add(1) }

// isCurrent reports whether the CA that has signed for the interception is still in use, where one has.
func (w *interception) isCurrent(p *Proxy) bool { return w.plain || w.issuer == p.issuers.Load() }
