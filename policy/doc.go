// Package policy decides who may send where: the clients of the configuration and what each may reach, how much and
// how often; the destinations with rules of their own; and the breaker of those that cannot be reached. It decides on
// names, prefixes and clocks that it is given. It knows no sockets and no HTTP but the field that a client shows its
// token in, neither logs nor counts for metrics, and starts no goroutine.
//
// A configuration is made into a [Policy] by [New], once; a reload makes another, which goes on counting where the one
// before it was. A request meets it in this order, that of the refusals:
//
//	Policy.Identify      whose is it?                    nil: 1016
//	Client.TakeRequest   is its client too fast?         false: 1020, and so with Acquire and TakeCheck
//	Client.Judge         may it go to this host, port?   Denied: 1019; WouldDeny is logged
//	Policy.Destination   which entry applies?            nil: none, the global settings hold
//	Policy.Alias         with which client certificate?  1010, 400 or 403
//	Breaker.Allow        can it be reached, of late?     false: 1018
//	Breaker.Done         could it?
//	Client.Release
//
// The codes are the proxy's; what they are answered with is not known here.
//
// # Who
//
// A client is known by tokens, of which only hashes are kept, by a certificate that the listener has verified, and by
// its address; an entry that asks for several kinds wants all of them. A request with a credential is its owner's or
// nobody's: it never falls back to what it could do without. What was found once is found again by [Policy.Recheck]
// after a reload, for tunnels and the requests inside of them.
//
// # Where
//
// Rules are held against a [Host], the name that was asked for and not where it leads: addresses are the guard's. Rules
// made of names say nothing of IP literals, so where a client has rules for hosts a literal needs a prefix that it
// fits; denyHosts beats allowHosts. Ten thousand rules cost no more than ten, for a name is looked up once for each of
// its labels.
//
// # What it does not do
//
// Rules are no boundary inside an opaque tunnel, whose SNI and Host nobody reads. Certificates are not looked up in
// revocation lists. Limits are those of one process.
package policy
