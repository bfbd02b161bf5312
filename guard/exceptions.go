package guard

import (
	"fmt"
	"net/netip"
)

// Exceptions are what the client that a call is made for, and the entry of destinations that applies to it, change about
// it. The zero value changes nothing. They compare, and so can be part of a map's key, as long as each list is made once.
type Exceptions struct {
	Client *AllowList // cidrAllowList of the client; nil: none
	Entry  *AllowList // cidrAllowList of the entry; nil: none. It joins the client's.
	Egress *Egress    // egress of the entry, in place of egress.addresses; nil: those
}

// AllowList is a list of prefixes that may be reached although the built-in table, or the rule for this host's own
// addresses, refuses them. It lifts neither cidrDenyList nor the metadata addresses nor the proxy's own listeners. nil
// is an empty list. It never changes.
type AllowList struct{ table *ruleTable }

// NewAllowList returns a list, or nil for no prefixes. Verdicts that it decides have a Rule with that name, which tells
// people whose list it was; it starts errors too, which are about prefixes with host bits or IPv4-mapped ones.
func NewAllowList(name string, prefixes []netip.Prefix) (*AllowList, error) {
	if err := checkPrefixes(name, prefixes); err != nil || len(prefixes) == 0 {
		return nil, err
	}
	return &AllowList{newRuleTable(configuredRules(name, prefixes))}, nil
}

// find returns the narrowest entry around a, or nil. It does not allocate.
func (l *AllowList) find(a netip.Addr) *Rule {
	if l == nil {
		return nil
	}
	return l.table.find(a)
}

// checkPrefixes reports the first prefix that cannot be used, by the key that it is under.
func checkPrefixes(key string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("%s: %s is not a CIDR prefix without host bits", key, p)
		}
	}
	return nil
}
