package policy

// DefaultAlias is the alias of clientCertFile. It is presented where nothing else is named.
const DefaultAlias = "default"

// noAlias in clientCerts of a client is none at all.
const noAlias = "none"

// AliasVerdict is what becomes of the client certificate of a request. Each but Present is for the one alias that was
// chosen: in its place no other is presented.
type AliasVerdict uint8

const (
	// AliasUnknown is 400, 1010: the request names an alias that does not exist or that the client may not use.
	AliasUnknown AliasVerdict = iota
	// AliasNotHere is 403, 1010: the alias is not for this host (clientCerts.*.hosts).
	AliasNotHere
	// Present is that the alias that is returned is presented, where it is not "".
	Present
)

// Alias returns the alias of the client certificate to present to h: the one that the request of c names, where named
// is not "", else that of its entry d, which may be nil, else the default. What the client may not use is not
// presented where it was not the request that named it.
func (p *Policy) Alias(c *Client, d *Destination, h Host, named string) (alias string, v AliasVerdict) {
	switch {
	case named != "":
		alias = named
	case d != nil && d.ClientCert != "":
		alias = d.ClientCert
	default:
		alias = DefaultAlias
	}
	hosts, exists := p.aliases[alias]
	if !exists || !c.mayPresent(alias) {
		if named != "" {
			return "", AliasUnknown
		}
		return "", Present
	}
	if hosts != nil && hosts.first(h, 0) < 0 {
		return "", AliasNotHere
	}
	return alias, Present
}

func (c *Client) mayPresent(alias string) bool { return c.aliases == nil || c.aliases[alias] }
