package accesslog

import (
	"bytes"

	"whsentry/proxy/http1"
)

// AppendURL appends as much of a URL as mode, a value of Config.URL, lets through.
func AppendURL(dst []byte, https bool, authority, path []byte, mode string) []byte {
	dst = append(dst, "http"...)
	if https {
		dst = append(dst, 's')
	}
	dst = append(append(dst, "://"...), authority...)
	return append(dst, visiblePath(path, mode)...)
}

// AppendTarget appends as much as mode, a value of Config.URL, lets through of a request's target that could not be taken
// apart, without what is, or was meant to be, user information: a password may hold a slash or a question mark that was
// not escaped.
func AppendTarget(dst, target []byte, mode string) []byte {
	rest, scheme := target, http1.SchemeEnd(target)+1
	absolute := bytes.HasPrefix(target[scheme:], []byte("//"))
	if mode == URLHost {
		return appendRawHost(dst, target, scheme, absolute && scheme > 0)
	}
	if absolute {
		dst, rest = append(dst, target[:scheme+2]...), target[scheme+2:]
	} else if bytes.HasPrefix(target, []byte("/")) {
		return append(dst, visiblePath(target, mode)...)
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	_, reject := http1.ParseAuthority(rest[:end])
	at := bytes.LastIndexByte(rest[:end], '@')
	if at < 0 && (!absolute || reject != "") {
		at = bytes.LastIndexByte(rest, '@')
	}
	return append(dst, visiblePath(rest[at+1:], mode)...)
}

// appendRawHost appends scheme and host of a target that was refused for something else, where it has them.
func appendRawHost(dst, target []byte, scheme int, absolute bool) []byte {
	if !absolute {
		return dst
	}
	host := target[scheme+2:]
	if end := bytes.IndexAny(host, "/?#"); end >= 0 {
		host = host[:end]
	}
	host = host[bytes.LastIndexByte(host, '@')+1:]
	if _, reject := http1.ParseAuthority(host); reject != "" {
		return dst
	}
	return append(append(dst, target[:scheme+2]...), host...)
}

// visiblePath cuts off what mode keeps out of the log.
func visiblePath(path []byte, mode string) []byte {
	switch mode {
	case URLHost:
		return nil
	case URLPath:
		if i := bytes.IndexAny(path, "?#"); i >= 0 {
			return path[:i]
		}
	}
	return path
}
