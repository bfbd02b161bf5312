package settings

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// form is what kind of value the writer of a text meant it to be. YAML tells; elsewhere everything is bareForm.
type form uint8

const (
	bareForm    form = 1 << iota // on the command line or in the environment
	textForm                     // YAML text without quotes
	quotedForm                   // YAML text in quotes, or in a block
	numberForm                   // a YAML number
	booleanForm                  // true or false in YAML

	anyForm = bareForm | textForm | quotedForm | numberForm | booleanForm
)

func (f form) String() string {
	switch f {
	case quotedForm:
		return "text in quotes"
	case numberForm:
		return "a number"
	case booleanForm:
		return "a boolean"
	}
	return "text"
}

// scalar is one value as it was written, and where.
type scalar struct {
	text   string
	form   form
	origin string // config.yaml:12, WHSENTRY_CONNECT_TIMEOUT or --connect-timeout
}

// format is how the values of a type are written; the same for every source, and for the defaults in --help.
type format[T any] struct {
	placeholder string // stands for a value in --help
	want        string // what is accepted, to follow "want" in an error
	forms       form   // those that parse is asked about; the others are of a wrong type
	parse       func(string) (T, error)
	print       func(T) string
}

// read returns the value of v, which was written for the key path.
func (f format[T]) read(path string, v scalar) (T, error) {
	if f.forms&v.form == 0 {
		var zero T
		return zero, wrongValue(v.origin, path, v.text, v.form.String(), f.want)
	}
	value, err := f.parse(v.text)
	if err != nil {
		return value, wrongValue(v.origin, path, v.text, err.Error(), f.want)
	}
	return value, nil
}

// wrongValue is the one form in which a value that cannot be used is reported.
func wrongValue(origin, path, text, problem, want string) error {
	return fmt.Errorf("%s: %s: %s: %s; want %s", origin, path, Quote(text), problem, want)
}

// Quote returns text in quotes, without control characters and secrets, and shortened where it would fill the screen.
func Quote(text string) string {
	const longest = 120
	text = withoutSecrets(text)
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}

// withoutSecrets returns text as it may be shown: not a private key that was given in place of its file's name, nor the
// password in a URL.
func withoutSecrets(text string) string {
	if strings.Contains(text, "PRIVATE KEY-----") || slices.ContainsFunc(strings.FieldsFunc(text, notBase64), isKeyLine) {
		return "(a private key)"
	}
	if start := strings.Index(text, "//"); start >= 0 {
		if at := strings.LastIndexByte(text, '@'); at > start {
			return text[:start+2] + "..." + text[at:]
		}
	}
	return text
}

// isKeyLine reports whether a word in base64 is as long as a line of a PEM file (RFC 7468 section 2): YAML that is
// indented wrongly is an error in the middle of one.
func isKeyLine(word string) bool {
	const line, longerLine = 64, 76
	return len(word) == line || len(word) == longerLine
}

func notBase64(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '+' && c != '/' && c != '='
}

// Printable makes one line of text that came from outside. What cannot be printed is written as in Go: \n, \x1b, \u202e.
func Printable(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		c, size := utf8.DecodeRuneInString(text)
		char := text[:size]
		if text = text[size:]; !unicode.IsPrint(c) || c == utf8.RuneError && size == 1 {
			quoted := strconv.Quote(char)
			char = quoted[1 : len(quoted)-1]
		}
		b.WriteString(char)
	}
	return b.String()
}

// texts are anything. What is more to be said of a key's text is said by its package's Validate.
func texts(placeholder, want string) format[string] {
	return format[string]{
		placeholder: placeholder,
		want:        want,
		forms:       bareForm | textForm | quotedForm,
		parse: func(s string) (string, error) {
			if strings.Contains(s, "-----BEGIN ") {
				return "", errors.New("PEM itself") // as the name of a file, it would stand in errors
			}
			return s, nil
		},
		print: func(s string) string { return s },
	}
}

var booleans = format[bool]{
	want:  "true or false",
	forms: bareForm | booleanForm,
	parse: func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, errors.New("not a boolean")
		}
		return b, nil
	},
	print: strconv.FormatBool,
}

var counts = format[int]{
	placeholder: "NUMBER",
	want:        "a whole number such as 100, without quotes",
	forms:       bareForm | textForm | numberForm, // YAML reads a number of more than 64 bits as text
	parse: func(s string) (int, error) {
		n, err := parseDigits(s, math.MaxInt)
		return int(n), err
	},
	print: strconv.Itoa,
}

var ports = format[uint16]{
	placeholder: "PORT",
	want:        "a port from 1 to 65535",
	forms:       bareForm | textForm | numberForm,
	parse: func(s string) (uint16, error) {
		n, err := parseDigits(s, math.MaxUint16)
		if err == nil && n == 0 {
			err = errors.New("not a port")
		}
		return uint16(n), err
	},
	print: func(p uint16) string { return strconv.Itoa(int(p)) },
}

// parseDigits accepts a whole number in its one decimal form: 010 would be eight to one reader and ten to another.
func parseDigits(s string, largest int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && n > largest:
		return 0, errors.New("out of range")
	case err != nil:
		return 0, errors.New("not a whole number")
	case n < 0:
		return 0, errors.New("negative")
	case strconv.FormatInt(n, 10) != s:
		return 0, errors.New("not in plain decimal digits")
	}
	return n, nil
}

var durations = format[time.Duration]{
	placeholder: "DURATION",
	want:        "a duration such as 10s, 500ms or 1h30m",
	forms:       anyForm,
	parse: func(s string) (time.Duration, error) {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return 0, errors.New("a number without a unit") // "0" too, which package time lets pass
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, errors.New("not a duration")
		}
		return d, nil
	},
	print: printDuration,
}

// printDuration writes whole hours, minutes and seconds as people do: 24h, 2m, 60s.
func printDuration(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d%unit.length == 0 && (d >= 2*unit.length || unit.length == time.Second) {
			return strconv.FormatInt(int64(d/unit.length), 10) + unit.name
		}
	}
	return d.String()
}

var sizes = format[int64]{
	placeholder: "SIZE",
	want:        "bytes such as 1048576, or a whole number of KiB, MiB or GiB such as 512KiB",
	forms:       anyForm,
	parse:       parseSize,
	print:       printSize,
}

// sizeUnits are the units of sizes, in powers of two, the largest first.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func parseSize(s string) (int64, error) {
	digits, factor := s, int64(1)
	for _, unit := range sizeUnits {
		if before, found := strings.CutSuffix(s, unit.name); found {
			digits, factor = before, unit.bytes
			break
		}
	}
	n, err := parseDigits(digits, math.MaxInt64/factor)
	if err != nil && !strings.HasPrefix(digits, "-") && strings.TrimLeft(digits, "0123456789") != "" {
		err = errors.New("not a size")
	}
	return n * factor, err
}

func printSize(n int64) string {
	for _, unit := range sizeUnits[:len(sizeUnits)-1] {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

var prefixes = format[netip.Prefix]{
	placeholder: "CIDR",
	want:        "a CIDR prefix without host bits such as 10.0.0.0/8, or an address",
	forms:       anyForm,
	parse:       parsePrefix,
	print:       netip.Prefix.String,
}

// parsePrefix accepts a prefix, or an address as the prefix of that one address.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil && a.Zone() != "" {
			return p, errors.New("an address with a zone")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case err != nil:
		return p, errors.New("neither a CIDR prefix nor an address")
	case p.Addr().Is4In6():
		return p, fmt.Errorf("IPv4-mapped, which %s written as IPv4 covers too", p.Addr().Unmap())
	case p != p.Masked():
		return p, fmt.Errorf("has host bits set (the prefix is %s)", p.Masked())
	}
	return p, nil
}

var servers = format[netip.AddrPort]{
	placeholder: "IP:PORT",
	want:        "ip:port such as 1.1.1.1:53 or [2606:4700:4700::1111]:53",
	forms:       anyForm,
	parse: func(s string) (netip.AddrPort, error) {
		a, err := netip.ParseAddrPort(s)
		if err != nil || a.Port() == 0 {
			return a, errors.New("not the address and port of a server")
		}
		return a, nil
	},
	print: netip.AddrPort.String,
}

var addresses = format[netip.Addr]{
	placeholder: "IP",
	want:        "an IP address of this host such as 192.0.2.1",
	forms:       anyForm,
	parse: func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return a, errors.New("not an IP address")
		case a.Zone() != "" || a.Is4In6() || a.IsUnspecified():
			return a, errors.New("not an address to connect from")
		}
		return a, nil
	},
	print: netip.Addr.String,
}
