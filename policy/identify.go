package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Peer is what a client's connection shows of it. It belongs to one connection, whose requests are identified one
// after the other.
type Peer struct {
	// Certificate is the client's; nil: it has shown none.
	Certificate *Certificate
	// Addr is the client's address, that of the PROXY header where there is one; not valid: it has none.
	Addr netip.Addr

	policy *Policy // whom client was found by
	client *Client // who it is without a credential
}

// Credential is what a request shows of its client: the value of its Proxy-Authorization field, and how many such
// fields it has. The zero Credential is that of a request without.
type Credential struct {
	Value  []byte
	Fields int
}

// Identify returns whose request it is, or nil for 1016. A request with a credential can only be the entry's whose it
// is, which must fit otherwise too; one without is the first entry's without tokens all of whose kinds fit. Where
// clients is not set it is everybody's, and the credential is not looked at. It does not allocate for a credential of
// up to 340 bytes.
func (p *Policy) Identify(peer *Peer, credential Credential) *Client {
	if !p.HasClients() {
		return p.everybody
	}
	if credential.Fields == 0 {
		if peer.policy != p {
			peer.policy, peer.client = p, p.anonymous(peer.Certificate, peer.Addr)
		}
		return peer.client
	}
	r := readers.Get().(*reader)
	defer r.release()
	name, token, ok := readCredential(r.room[:0], credential)
	if !ok {
		return nil
	}
	c := p.bearer(r.hashOf(token))
	if c == nil || name != nil && string(name) != c.Name || !c.fits(peer.Certificate, peer.Addr) {
		return nil
	}
	return c
}

// anonymous returns the client of a request without a credential, or nil.
func (p *Policy) anonymous(certificate *Certificate, addr netip.Addr) *Client {
	for _, c := range p.clients {
		if len(c.tokens) == 0 && c.fits(certificate, addr) {
			return c
		}
	}
	return nil
}

// bearer returns the client that has a token of this hash, or nil. The comparison takes as long whatever differs; the
// look before it is at a hash, of which knowing a part is no help in finding a token.
func (p *Policy) bearer(hash [32]byte) *Client {
	c := p.byToken[hash]
	if c == nil {
		return nil
	}
	same := 0
	for i := range c.tokens {
		same |= subtle.ConstantTimeCompare(c.tokens[i][:], hash[:])
	}
	if same == 0 {
		return nil
	}
	return c
}

// fits reports whether certificate and address are such as c asks for.
func (c *Client) fits(certificate *Certificate, addr netip.Addr) bool {
	if !c.certificates.fit(certificate) {
		return false
	}
	if len(c.addresses) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(c.addresses, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// reader is what reading a credential takes, kept for the next one. sha256.Sum256 would do without it, and where the
// compiler has a profile of the whole program allocates three times.
type reader struct {
	room [256]byte // for name:token as it is decoded; a longer one allocates
	hash hash.Hash // SHA-256
	sum  [sha256.Size]byte
}

var readers = sync.Pool{New: func() any { return &reader{hash: sha256.New()} }}

func (r *reader) hashOf(token []byte) [sha256.Size]byte {
	r.hash.Reset()
	r.hash.Write(token)
	r.hash.Sum(r.sum[:0])
	return r.sum
}

func (r *reader) release() {
	clear(r.room[:]) // it has held a secret
	readers.Put(r)
}

// readCredential returns the token of one well-formed "Basic" of name:token (RFC 7617), with the name, or "Bearer" (RFC
// 6750), where name is nil. They are parts of the credential or of room, which is appended to.
func readCredential(room []byte, credential Credential) (name, token []byte, ok bool) {
	if credential.Fields != 1 {
		return nil, nil, false
	}
	scheme, rest, found := bytes.Cut(bytes.Trim(credential.Value, " \t"), []byte(" "))
	rest = bytes.TrimLeft(rest, " ")
	if !found || len(rest) == 0 || bytes.ContainsAny(rest, " \t") {
		return nil, nil, false
	}
	switch {
	case isScheme(scheme, "bearer"):
		return nil, rest, true
	case isScheme(scheme, "basic"):
		decoded, err := strictBase64.AppendDecode(room, rest)
		if err != nil {
			return nil, nil, false
		}
		return bytes.Cut(decoded, []byte(":"))
	}
	return nil, nil, false
}

// strictBase64 has one text for each value.
var strictBase64 = base64.StdEncoding.Strict()

func isScheme(scheme []byte, want string) bool {
	return len(scheme) == len(want) && strings.EqualFold(string(scheme), want)
}

// Identity is who somebody was found to be, and by what: enough to ask again after the configuration has changed.
type Identity struct {
	client      string   // its name; "" where clients was not set
	token       [32]byte // its hash
	credential  bool     // whether token counts
	certificate *Certificate
	addr        netip.Addr
}

// Identity returns what Recheck needs of a request that is c's by peer and credential. It holds no token.
func (c *Client) Identity(peer *Peer, credential Credential) Identity {
	id := Identity{client: c.Name, certificate: peer.Certificate, addr: peer.Addr}
	if c.Name != "" && credential.Fields > 0 {
		r := readers.Get().(*reader)
		defer r.release()
		_, token, _ := readCredential(r.room[:0], credential)
		id.token, id.credential = r.hashOf(token), true
	}
	return id
}

// Recheck returns who id is now, or nil where that is over: the entry is gone, the credential, certificate or address
// is no longer its, or another entry comes before it by now. What id was before clients was set may go on as whoever
// it is now. What the client may reach is to be judged again beside it. It is safe for concurrent use.
func (p *Policy) Recheck(id *Identity) *Client {
	if !p.HasClients() {
		return p.everybody
	}
	var c *Client
	switch {
	case !id.credential:
		c = p.anonymous(id.certificate, id.addr)
	default:
		if c = p.bearer(id.token); c != nil && !c.fits(id.certificate, id.addr) {
			c = nil
		}
	}
	if c == nil || id.client != "" && c.Name != id.client {
		return nil
	}
	return c
}
