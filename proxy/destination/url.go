package destination

import (
	"strconv"

	"whsentry/proxy/http1"
	"whsentry/proxy/reason"
)

// URL is what a URL says of where it goes: a host, as a lower-cased DNS name or an IP literal without brackets, and a port.
type URL struct {
	Host string
	Port uint16
	TLS  bool // the proxy speaks TLS to it
}

// ParseURL judges a URL as the proxy judges a request's target; TLS is set for https. The error is a *URLError, whose text
// holds what the client would be told, with the reason code.
func ParseURL(raw string) (URL, error) {
	t, err := http1.ParseTarget([]byte(raw))
	if f := reason.OfMessage(err); f != nil {
		return URL{}, &URLError{Code: int(f.Code), Status: f.Status, Text: f.Text}
	}
	var a Address
	a.Set(&t.Authority, t.HTTPS)
	return URL{Host: a.Name(), Port: a.Port(), TLS: t.HTTPS}, nil
}

// URLError says that a URL is not one that the proxy would forward to.
type URLError struct {
	Code   int // the reason code
	Status int // the HTTP status
	Text   string
}

func (e *URLError) Error() string {
	return e.Text + " (reason " + strconv.Itoa(e.Code) + ", status " + strconv.Itoa(e.Status) + ")"
}
