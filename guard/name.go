package guard

import "strings"

// canonicalName returns host in lower case and without its trailing dot, and whether it is a DNS name: up to 253
// letters, digits, hyphens and underscores in labels of up to 63, the last of which is not a number, for that is an
// IPv4 address in one of its disguises (127.1, 0x7f000001).
func canonicalName(host string) (string, bool) {
	name := strings.TrimSuffix(host, ".")
	if len(name) == 0 || len(name) > 253 {
		return "", false
	}
	label := 0
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
		if label++; label > 63 {
			return "", false
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	if label == 0 || isNumber(last) {
		return "", false
	}
	return strings.ToLower(name), true
}

// isNumber reports whether label is decimal, or hexadecimal after 0x.
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && (label[:2] == "0x" || label[:2] == "0X") {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}
