package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// framingFields are header fields that a load writes itself.
var framingFields = []string{"host", "content-length", "transfer-encoding", "connection"}

// request returns the bytes of a request for target, an absolute URI, in the form that proxies take (RFC 9112 section
// 3.2.2), or servers where it goes through a tunnel.
func (l *load) request(target string) ([]byte, error) {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("target %q: want an absolute URL, http://host[:port]/path", target)
	}
	if u.User != nil || u.Fragment != "" || strings.ContainsAny(target, " \r\n\t") {
		return nil, fmt.Errorf("target %q: want one without user, fragment or white space", target)
	}
	if strings.ContainsAny(l.verb(), " \t\r\n\x00") {
		return nil, fmt.Errorf("method %q: want a word, such as POST", l.verb())
	}
	if u.Path == "" {
		target = u.Scheme + "://" + u.Host + "/"
		if u.RawQuery != "" {
			target += "?" + u.RawQuery
		}
	}
	if l.tunnel != "" {
		target = u.RequestURI()
	}
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\n", l.verb(), target, u.Host)
	if l.lone {
		b = append(b, "Connection: close\r\n"...)
	}
	b, err = l.appendHeader(b)
	if err != nil {
		return nil, err
	}
	if l.body != nil {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(l.body))
	}
	return append(append(b, "\r\n"...), l.body...), nil
}

// verb returns the method that the load's requests have.
func (l *load) verb() string {
	switch {
	case l.method != "":
		return l.method
	case l.body != nil:
		return "POST"
	}
	return "GET"
}

// appendHeader appends the load's own header lines.
func (l *load) appendHeader(b []byte) ([]byte, error) {
	for _, line := range l.header {
		name, _, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t") || strings.ContainsAny(line, "\r\n\x00") {
			return nil, fmt.Errorf("header %q: want Name: value", line)
		}
		if slices.Contains(framingFields, strings.ToLower(name)) {
			return nil, fmt.Errorf("header %q: this one is made from the target and the body; want any other", line)
		}
		b = append(append(b, line...), "\r\n"...)
	}
	return b, nil
}
