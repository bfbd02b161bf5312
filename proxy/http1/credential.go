package http1

// Credential is what a request shows the proxy of its client (RFC 9110 section 11.7.2), which is passed on to nobody.
type Credential struct {
	// Authorization is the value of the last Proxy-Authorization.
	Authorization Span
	// Authorizations is how many such fields there are.
	Authorizations int
}

// scan notes one hop-by-hop field of head, where it is a Proxy-Authorization.
func (c *Credential) scan(head []byte, f Field) {
	if EqualFold(f.Name.Of(head), "proxy-authorization") {
		c.Authorization = f.Value
		c.Authorizations++
	}
}
