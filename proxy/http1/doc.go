// Package http1 knows the bytes of HTTP/1.1 and 1.0 messages (RFC 9112), and nothing else: it reads what it is given
// and never from a socket, allocates nothing on the way of a message that is in order, and decides nothing but whether
// a message is well-formed. The framing of HTTP/1 is where proxies are attacked, so requests are held to the RFC's
// grammar with none of the freedoms that it leaves a server: each is how two parsers come to see two different messages
// in the same bytes. A response that is merely untidy is tidied, for the webhook has been delivered and an error would
// have it sent again.
package http1
