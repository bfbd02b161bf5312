package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// hostRule is a name, every name below a domain, or a prefix.
type hostRule struct {
	name   string // the name or the domain, in canonical form
	below  bool   // every name below name, and not name itself
	prefix netip.Prefix
}

const wantHostRule = `a name such as hooks.example.com, "*." and a domain, or a prefix or address`

// parseHostRules reads the list of host rules at key. Nil is nil.
func parseHostRules(key string, texts []string) ([]hostRule, error) {
	if err := notEmpty(key, texts, "at least one host, or no such key"); err != nil {
		return nil, err
	}
	var rules []hostRule
	for i, text := range texts {
		r, problem := parseHostRule(text)
		if problem != "" {
			return nil, &ConfigError{at(key, i), text, problem, wantHostRule}
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// parseHostRule reads one host rule; problem is "" where it is one.
func parseHostRule(text string) (r hostRule, problem string) {
	for _, c := range []byte(text) {
		if c >= 0x80 {
			return r, "is not ASCII; write it as in DNS (xn--)"
		}
	}
	switch {
	case text == "":
		return r, "is empty"
	case text == "*":
		return r, "would be every host, which is what no list at all says"
	case strings.ContainsAny(text, "/:"):
		return parsePrefixRule(text)
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return hostRule{prefix: netip.PrefixFrom(a, a.BitLen())}, ""
	}
	name, below := strings.CutPrefix(text, "*.")
	name, problem = canonicalName(name)
	if below && problem == "" && len(name) > maxNameLength-len("a.") {
		problem = "can fit nothing: no name below it is short enough"
	}
	return hostRule{name: name, below: below}, problem
}

func parsePrefixRule(text string) (r hostRule, problem string) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return r, "is neither a name nor a prefix"
		}
		if a.Zone() != "" {
			return r, "can fit nothing: it has a zone"
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return hostRule{prefix: p}, prefixProblem(p)
}

// prefixProblem says what is wrong with p, or "".
func prefixProblem(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "is no prefix"
	case p.Addr().Is4In6():
		return "is IPv4-mapped; write its IPv4 form"
	case p != p.Masked():
		return fmt.Sprintf("has host bits set; its prefix is %s", p.Masked())
	}
	return ""
}

const maxNameLength = 253 // RFC 1035 section 2.3.4, without the final dot

// canonicalName returns text in lower case and without a final dot, and what keeps it from being the name of a host
// that a request may ask for, or "".
func canonicalName(text string) (name, problem string) {
	name = strings.ToLower(strings.TrimSuffix(text, "."))
	if len(name) > maxNameLength {
		return "", "can fit nothing: it is longer than 253 bytes"
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return "", "can fit nothing: a label of it is empty or longer than 63 bytes"
		}
		if i := strings.IndexFunc(label, notInName); i >= 0 {
			return "", fmt.Sprintf("can fit nothing: %q is in no name", label[i])
		}
	}
	if isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
		return "", "can fit nothing: it ends in a number and is no address"
	}
	return name, ""
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// isNumber reports whether label is decimal, or hexadecimal after 0x: then it ends an IPv4 address in disguise.
func isNumber(label string) bool {
	if digits, is := strings.CutPrefix(label, "0x"); is {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// at is the key of an element of a list.
func at(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

// notEmpty refuses a list that is there and holds nothing.
func notEmpty[T any](key string, list []T, want string) error {
	if list != nil && len(list) == 0 {
		return &ConfigError{Key: key, Problem: "is empty", Want: want}
	}
	return nil
}
