package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"whsentry/ca"
	"whsentry/ca/catest"
	"whsentry/guard"
	"whsentry/proxy"
)

// ua is the one User-Agent that reaches destinations.
const ua = "User-Agent: Webhook Sentry/0.1\r\n"

// requestRow is a request, byte for byte, and all that comes of it. In raw and sent, {o} stands for the
// destination's address.
type requestRow struct {
	name, raw string
	status    int
	reason    string // "" where the destination answers
	closed    bool   // the client's connection ends after the answer
	sent      string // what reaches the destination; "" for no connection
}

// requestRows is the corpus. GET, POST and HOST stand for what most of its requests begin with.
var requestRows = func() (rows []requestRow) {
	for _, r := range slicesOf(verbatimRows, strippingRows, refusedHeadRows, refusedFramingRows, refusedBodyRows, refusedTargetRows, versionRows) {
		r.raw = strings.NewReplacer("GET~", "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n", "POST~", "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\n").Replace(r.raw)
		r.sent = strings.NewReplacer("GET~", "GET / HTTP/1.1\r\nHost: {o}\r\n", "POST~", "POST / HTTP/1.1\r\nHost: {o}\r\n", "UA~", ua).Replace(r.sent)
		rows = append(rows, r)
	}
	return rows
}()

func slicesOf(tables ...[]requestRow) (all []requestRow) {
	for _, t := range tables {
		all = append(all, t...)
	}
	return all
}

// verbatimRows are passed on as they came.
var verbatimRows = []requestRow{
	{"GET", "GET~\r\n", 200, "", false, "GET~UA~\r\n"},
	{"POST", "POST~Content-Length: 3\r\n\r\nabc", 200, "", false, "POST~Content-Length: 3\r\nUA~\r\nabc"},
	{"binary body", "POST~Content-Length: 6\r\n\r\n\x00\r\n\xff\r\n", 200, "", false, "POST~Content-Length: 6\r\nUA~\r\n\x00\r\n\xff\r\n"},
	{"body that looks like a request", "POST~Content-Length: 19\r\n\r\nGET / HTTP/1.1\r\n\r\nX", 200, "", false, "POST~Content-Length: 19\r\nUA~\r\nGET / HTTP/1.1\r\n\r\nX"},
	{"empty lines in front", "\r\n\r\nGET~\r\n", 200, "", false, "GET~UA~\r\n"},
	{"GET with a body", "GET~Content-Length: 3\r\n\r\nabc", 200, "", false, "GET~Content-Length: 3\r\nUA~\r\nabc"},
	{"POST without a body", "POST~\r\n", 200, "", false, "POST~UA~\r\n"},
	{"POST with an empty body", "POST~Content-Length: 0\r\n\r\n", 200, "", false, "POST~Content-Length: 0\r\nUA~\r\n"},
	{"PUT", "PUT http://{o}/a HTTP/1.1\r\nHost: {o}\r\nContent-Length: 1\r\n\r\nx", 200, "", false, "PUT /a HTTP/1.1\r\nHost: {o}\r\nContent-Length: 1\r\nUA~\r\nx"},
	{"unheard-of method", "X-!#$ http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "X-!#$ / HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"method in small letters", "post http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "post / HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"OPTIONS of the server", "OPTIONS http://{o} HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "OPTIONS * HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"OPTIONS of the root", "OPTIONS http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "OPTIONS / HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"no path", "GET http://{o} HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"query without a path", "GET http://{o}?a=b HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /?a=b HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"dots and slashes", "GET http://{o}/a/../../b/./c//d/..;/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /a/../../b/./c//d/..;/ HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"escapes", "GET http://{o}/%2e%2E/%2F%00%0d%0a%c3%a4%zz%?%26=+%20 HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /%2e%2E/%2F%00%0d%0a%c3%a4%zz%?%26=+%20 HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"odd characters", "GET http://{o}/a|b\"<>[]{}^`\\?x=[]&y=http://a/?b HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /a|b\"<>[]{}^`\\?x=[]&y=http://a/?b HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"bytes beyond ASCII", "GET http://{o}/\xc3\xa4\xff HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /\xc3\xa4\xff HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"empty query", "GET http://{o}/a? HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET /a? HTTP/1.1\r\nHost: {o}\r\nUA~\r\n"},
	{"letters and order", "GET~x-B: 1\r\nACCEPT: */*\r\nX-a: 2\r\nx-b: 3\r\ncookie: a\r\nCookie: b\r\n\r\n", 200, "", false, "GET~x-B: 1\r\nACCEPT: */*\r\nX-a: 2\r\nx-b: 3\r\ncookie: a\r\nCookie: b\r\nUA~\r\n"},
	{"values as they are", "GET~A:b\r\nB: c  d\r\nC:\t\xff\x80\te\t \r\nD:\r\n\r\n", 200, "", false, "GET~A: b\r\nB: c  d\r\nC: \xff\x80\te\r\nD:\r\nUA~\r\n"},
	{"letters of the length", "POST~content-LENGTH: 003\r\nA: b\r\n\r\nabc", 200, "", false, "POST~content-LENGTH: 3\r\nA: b\r\nUA~\r\nabc"},
	{"fields that only look like framing", "POST~Transfer_Encoding: chunked\r\nContent_Length: 9\r\nX-Content-Length: 9\r\nTransfer-Encodings: chunked\r\nContent-Length: 1\r\n\r\nx", 200, "", false, "POST~Transfer_Encoding: chunked\r\nContent_Length: 9\r\nX-Content-Length: 9\r\nTransfer-Encodings: chunked\r\nContent-Length: 1\r\nUA~\r\nx"},
	{"chunked", "POST~Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, "", false, "POST~Content-Length: 5\r\nUA~\r\nabcde"},
	{"chunked in capitals and white space", "POST~TRANSFER-ENCODING: \t CHUNKED\t\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, "", false, "POST~Content-Length: 10\r\nUA~\r\n0123456789"},
	{"chunked and empty", "POST~Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", false, "POST~Content-Length: 0\r\nUA~\r\n"},
	{"chunk extensions", "POST~Transfer-Encoding: chunked\r\n\r\n3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", 200, "", false, "POST~Content-Length: 3\r\nUA~\r\nabc"},
	{"chunks of sixteen digits", "POST~Transfer-Encoding: chunked\r\n\r\n0000000000000003\r\nabc\r\n0000\r\n\r\n", 200, "", false, "POST~Content-Length: 3\r\nUA~\r\nabc"},
	{"trailers", "POST~Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\nX-U:\r\n\r\n", 200, "", false, "POST~Content-Length: 1\r\nUA~\r\na"},
	{"chunks of line ends", "POST~Transfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n", 200, "", false, "POST~Content-Length: 4\r\nUA~\r\n\r\n\r\n"},
	{"Host of the URI wins", "GET http://{o}/ HTTP/1.1\r\nA: 1\r\nhOsT: other.example:81\r\nB: 2\r\n\r\n", 200, "", false, "GET / HTTP/1.1\r\nA: 1\r\nhOsT: {o}\r\nB: 2\r\nUA~\r\n"},
	{"scheme in capitals", "GET HTTP://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"TLS switched off", "GET~X-WhSentry-TLS: 0\r\nx-whsentry-tls: FALSE\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"alias without TLS", "GET~X-WhSentry-ClientCert: nobody\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
}

// strippingRows lose what belongs to the hop, and get their User-Agent replaced.
var strippingRows = []requestRow{
	{"hop-by-hop", "GET~Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: A\r\nUpgrade: websocket\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"hop-by-hop in other letters", "GET~CONNECTION: Keep-Alive\r\nkeep-ALIVE: 5\r\nte: trailers\r\nupgrade: h2c\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"named by Connection", "GET~X-A: 1\r\nConnection: x-a ,, X-B\r\nX-B: 2\r\nX-C: 3\r\nAuthorization: Basic eA==\r\n\r\n", 200, "", false, "GET~X-C: 3\r\nAuthorization: Basic eA==\r\nUA~\r\n"},
	{"named by a later Connection", "GET~X-A: 1\r\nX-B: 2\r\nConnection: X-A\r\nConnection: X-B\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"Connection names the framing", "POST~Connection: Content-Length, Host, User-Agent, Transfer-Encoding\r\nContent-Length: 1\r\n\r\nx", 200, "", false, "POST~Content-Length: 1\r\nUA~\r\nx"},
	{"Connection names a coding", "POST~Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 200, "", false, "POST~Content-Length: 1\r\nUA~\r\nx"},
	{"Connection: close", "GET~Connection: close\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"Connection: close in a list", "GET~Connection: X-A, CLOSE\r\nX-A: 1\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"Connection: close after a body", "POST~Connection: close\r\nContent-Length: 1\r\n\r\nx", 200, "", true, "POST~Content-Length: 1\r\nUA~\r\nx"},
	{"Proxy-*", "GET~Proxy-Connection: close\r\nProxy-Authorization: Basic eA==\r\nPROXY-FOO: 1\r\nProxy: 2\r\n\r\n", 200, "", false, "GET~Proxy: 2\r\nUA~\r\n"},
	{"X-WhSentry-*", "GET~X-WhSentry-Foo: 1\r\nx-whsentry-reason: 2\r\nX-WhSentry-ReasonCode: 1000\r\nX-WhSentry: 4\r\n\r\n", 200, "", false, "GET~X-WhSentry: 4\r\nUA~\r\n"},
	{"User-Agent replaced in its place", "GET~A: 1\r\nuser-agent: curl/8\r\nB: 2\r\n\r\n", 200, "", false, "GET~A: 1\r\nuser-agent: Webhook Sentry/0.1\r\nB: 2\r\n\r\n"},
	{"two User-Agents", "GET~User-Agent: a\r\nUser-Agent: b\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"empty User-Agent", "GET~User-Agent:\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"nothing is added", "GET~Via: 1.0 a\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=a\r\nRequest-ID: 7\r\n\r\n", 200, "", false, "GET~Via: 1.0 a\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=a\r\nRequest-ID: 7\r\nUA~\r\n"},
	{"another Expect", "GET~Expect: 200-ok\r\n\r\n", 200, "", false, "GET~Expect: 200-ok\r\nUA~\r\n"},
	{"Expect without a body", "GET~Expect: 100-continue\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"Expect with an empty body", "POST~Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", 200, "", false, "POST~Content-Length: 0\r\nUA~\r\n"},
	{"TE and chunked", "POST~TE: chunked\r\nConnection: TE\r\nContent-Length: 1\r\n\r\nx", 200, "", false, "POST~Content-Length: 1\r\nUA~\r\nx"},
}

// refusedHeadRows have something wrong with a line.
var refusedHeadRows = []requestRow{
	{"bare LF after the request line", "GET http://{o}/ HTTP/1.1\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"bare LF after Host", "GET http://{o}/ HTTP/1.1\r\nHost: {o}\n\r\n", 400, "1002", true, ""},
	{"bare LF after a field", "GET~A: b\nB: c\r\n\r\n", 400, "1002", true, ""},
	{"bare LF before a length", "POST~A: b\nContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"bare LF as the empty line", "GET~\n", 400, "1002", true, ""},
	{"bare LF as the empty line, and a request", "GET~A: b\r\n\nGET http://{o}/2 HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"bare LF everywhere", "GET http://{o}/ HTTP/1.1\nHost: {o}\n\n", 400, "1002", true, ""},
	{"bare LF in front", "\nGET~\r\n", 400, "1002", true, ""},
	{"bare CR in front", "\rGET~\r\n", 400, "1002", true, ""},
	{"bare CR as a line's end", "GET~A: b\rContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"bare CR in the request line", "GET http://{o}/\rA HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"bare CR in a name", "GET~Content\r-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"CR CR LF", "GET~A: b\r\r\n\r\n", 400, "1002", true, ""},
	{"CR CR LF as the empty line", "GET~A: b\r\n\r\r\n\r\n", 400, "1002", true, ""},
	{"LF CR", "GET~A: b\n\r\n", 400, "1002", true, ""},
	{"folded with a space", "GET~A: b\r\n c\r\n\r\n", 400, "1002", true, ""},
	{"folded with a tab", "GET~A: b\r\n\tc\r\n\r\n", 400, "1002", true, ""},
	{"folded length", "POST~Content-Length: 3\r\n 4\r\n\r\nabc", 400, "1002", true, ""},
	{"folded length below nothing", "POST~Content-Length:\r\n 3\r\n\r\nabc", 400, "1002", true, ""},
	{"folded coding", "POST~Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"folded Host", "GET http://{o}/ HTTP/1.1\r\nHost:\r\n {o}\r\n\r\n", 400, "1002", true, ""},
	{"length hidden in a fold", "POST~A: b\r\n Content-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"folded first field", "GET http://{o}/ HTTP/1.1\r\n Host: {o}\r\n\r\n", 400, "1002", true, ""},
	{"a line of a space", "GET~ \r\n\r\n", 400, "1002", true, ""},
	{"space before the colon", "GET~A : b\r\n\r\n", 400, "1002", true, ""},
	{"tab before the colon", "GET~A\t: b\r\n\r\n", 400, "1002", true, ""},
	{"space before the colon of a length", "POST~Content-Length : 3\r\n\r\nabc", 400, "1002", true, ""},
	{"space before the colon of a coding", "POST~Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"space in a name", "GET~Transfer Encoding: chunked\r\n\r\n", 400, "1002", true, ""},
	{"no name", "GET~: b\r\n\r\n", 400, "1002", true, ""},
	{"no colon", "GET~Ab\r\n\r\n", 400, "1002", true, ""},
	{"NUL in a name", "GET~A\x00: b\r\n\r\n", 400, "1002", true, ""},
	{"NUL in a value", "GET~A: \x00\r\n\r\n", 400, "1002", true, ""},
	{"DEL in a value", "GET~A: \x7f\r\n\r\n", 400, "1002", true, ""},
	{"escape in a value", "GET~A: \x1b[31m\r\n\r\n", 400, "1002", true, ""},
	{"form feed in a value", "GET~Transfer-Encoding: \x0cchunked\r\n\r\n", 400, "1002", true, ""},
	{"obs-text in a name", "GET~Transfer-Encoding\xa0: chunked\r\n\r\n", 400, "1002", true, ""},
	{"quote in a name", "GET~\"A\": b\r\n\r\n", 400, "1002", true, ""},
	{"brackets in a name", "GET~A(b): c\r\n\r\n", 400, "1002", true, ""},
	{"slash in a name", "GET~A/b: c\r\n\r\n", 400, "1002", true, ""},
	{"NUL in the method", "GE\x00T http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"NUL in the target", "GET http://{o}/\x00 HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"DEL in the target", "GET http://{o}/\x7f HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"tab for a space", "GET\thttp://{o}/\tHTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"two spaces", "GET  http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"two spaces before the version", "GET http://{o}/  HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"space behind the version", "GET http://{o}/ HTTP/1.1 \r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"space in front", " GET~\r\n", 400, "1002", true, ""},
	{"space in the target", "GET http://{o}/a b HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"a version within the target", "GET http://{o}/ HTTP/1.1 HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"method that is no token", "G[T http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"no method", " http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"no target", "GET HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"only a method", "GET\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"TLS on a plain listener", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaa", 400, "1002", true, ""},
	{"two Hosts", "GET~Host: {o}\r\n\r\n", 400, "1002", true, ""},
	{"two Hosts in other letters", "GET~hOST: other\r\n\r\n", 400, "1002", true, ""},
	{"two Hosts and a body", "POST~Content-Length: 1\r\nHost: b\r\n\r\nx", 400, "1002", true, ""},
}

// refusedFramingRows leave open where the body ends. Their bodies are such that a lax reader would find a second
// request in them.
var refusedFramingRows = []requestRow{
	{"length and coding", "POST~Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", 400, "1002", true, ""},
	{"coding and length", "POST~Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nX", 400, "1002", true, ""},
	{"length of 0 and coding", "POST~Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"same length twice", "POST~Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"two lengths", "POST~Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", 400, "1002", true, ""},
	{"two lengths in other letters", "POST~Content-Length: 3\r\ncontent-length: 0\r\n\r\nabc", 400, "1002", true, ""},
	{"length list", "POST~Content-Length: 3, 3\r\n\r\nabc", 400, "1002", true, ""},
	{"length list of two", "POST~Content-Length: 0,3\r\n\r\nabc", 400, "1002", true, ""},
	{"length with a sign", "POST~Content-Length: +3\r\n\r\nabc", 400, "1002", true, ""},
	{"negative length", "POST~Content-Length: -3\r\n\r\nabc", 400, "1002", true, ""},
	{"hexadecimal length", "POST~Content-Length: 0x3\r\n\r\nabc", 400, "1002", true, ""},
	{"length with a point", "POST~Content-Length: 3.0\r\n\r\nabc", 400, "1002", true, ""},
	{"length with an exponent", "POST~Content-Length: 3e0\r\n\r\nabc", 400, "1002", true, ""},
	{"length with a space", "POST~Content-Length: 3 3\r\n\r\nabc", 400, "1002", true, ""},
	{"length in quotes", "POST~Content-Length: \"3\"\r\n\r\nabc", 400, "1002", true, ""},
	{"length with a parameter", "POST~Content-Length: 3;a=b\r\n\r\nabc", 400, "1002", true, ""},
	{"length with a vertical tab", "POST~Content-Length: \x0b3\r\n\r\nabc", 400, "1002", true, ""},
	{"empty length", "POST~Content-Length:\r\n\r\n", 400, "1002", true, ""},
	{"length that is text", "POST~Content-Length: abc\r\n\r\nabc", 400, "1002", true, ""},
	{"length in another script", "POST~Content-Length: \xd9\xa3\r\n\r\nabc", 400, "1002", true, ""},
	{"identity", "POST~Transfer-Encoding: identity\r\n\r\n", 400, "1002", true, ""},
	{"identity and a length", "POST~Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"gzip", "POST~Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"gzip, chunked", "POST~Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked, identity", "POST~Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked, chunked", "POST~Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"coding twice", "POST~Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"coding and another", "POST~Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"coding and another the other way round", "POST~Transfer-encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"xchunked", "POST~Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunkedx", "POST~Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunk", "POST~Transfer-Encoding: chunk\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked with a comma", "POST~Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked behind a comma", "POST~Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked in quotes", "POST~Transfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked with a parameter", "POST~Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked behind a vertical tab", "POST~Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked behind obs-text", "POST~Transfer-Encoding: \xa0chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked with a bare CR", "POST~Transfer-Encoding: chunked\r\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked with a NUL", "POST~Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"coding with two colons", "POST~Transfer-Encoding:: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"empty coding", "POST~Transfer-Encoding:\r\n\r\n", 400, "1002", true, ""},
	{"empty coding and a length", "POST~Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"chunked of 1.0", "POST http://{o}/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"chunked of 1.0 that stays", "POST http://{o}/ HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
	{"CONNECT with a body", "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", true, ""},
	{"CONNECT with a chunked body", "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "1002", true, ""},
}

// refusedBodyRows have a chunked body with something wrong.
var refusedBodyRows = func() (rows []requestRow) {
	for _, b := range []struct{ name, body string }{
		{"size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"},
		{"negative size", "-3\r\nabc\r\n0\r\n\r\n"},
		{"size with a sign", "+3\r\nabc\r\n0\r\n\r\n"},
		{"size that is no number", "xyz\r\nabc\r\n0\r\n\r\n"},
		{"size with an underscore", "0_3\r\nabc\r\n0\r\n\r\n"},
		{"no size", "\r\nabc\r\n0\r\n\r\n"},
		{"space before a size", " 3\r\nabc\r\n0\r\n\r\n"},
		{"space behind a size", "3 \r\nabc\r\n0\r\n\r\n"},
		{"space before an extension", "3 ;a\r\nabc\r\n0\r\n\r\n"},
		{"size of seventeen digits", "00000000000000003\r\nabc\r\n0\r\n\r\n"},
		{"size that overflows", "10000000000000003\r\nabc\r\n0\r\n\r\n"},
		{"size that overflows to 0", "10000000000000000\r\n\r\n"},
		{"size of 64 bits", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
		{"bare LF behind a size", "3\nabc\r\n0\r\n\r\n"},
		{"bare LF behind the last size", "3\r\nabc\r\n0\n\r\n"},
		{"bare CR behind a size", "3\rabc\r\n0\r\n\r\n"},
		{"bare LF behind the data", "3\r\nabc\n0\r\n\r\n"},
		{"data too long", "3\r\nabcd\r\n0\r\n\r\n"},
		{"data too short", "4\r\nabc\r\n0\r\n\r\n"},
		{"two bytes that are no line end", "3\r\nabcXX0\r\n\r\n"},
		{"bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"},
		{"bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n"},
		{"NUL in an extension", "3;\x00\r\nabc\r\n0\r\n\r\n"},
		{"bare LF at the end", "0\r\n\n"},
		{"text at the end", "0\r\n\rX"},
		{"request line for a trailer", "0\r\nGET http://{o}/2 HTTP/1.1\r\n\r\n"},
		{"folded trailer", "0\r\nA: b\r\n c\r\n\r\n"},
		{"trailer with a space before the colon", "0\r\nA : b\r\n\r\n"},
		{"trailer without a name", "0\r\n: b\r\n\r\n"},
		{"trailer with a bare LF", "0\r\nA: b\n\r\n"},
		{"trailer with a bare CR", "0\r\nA: b\rB: c\r\n\r\n"},
		{"trailer with a NUL", "0\r\nA: \x00\r\n\r\n"},
		{"length for a trailer", "0\r\nContent-Length: 3\r\n\r\n"},
		{"coding for a trailer", "0\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"Host for a trailer", "0\r\nHost: a\r\n\r\n"},
	} {
		rows = append(rows, requestRow{"chunked: " + b.name, "POST~Transfer-Encoding: chunked\r\n\r\n" + b.body, 400, "1002", true, ""})
	}
	return rows
}()

// refusedTargetRows are well framed, so that the connection goes on.
var refusedTargetRows = []requestRow{
	{"origin form", "GET / HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"origin form with a body", "POST / HTTP/1.1\r\nHost: {o}\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", false, ""},
	{"origin form with a chunked body", "POST / HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 400, "1002", false, ""},
	{"origin form that closes", "GET / HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n", 400, "1002", true, ""},
	{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"network path", "GET //{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"authority form", "GET {o} HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"one slash", "GET http:/{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"three slashes", "GET http:///{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"backslashes", "GET http:\\\\{o}\\ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"backslash behind the host", "GET http://{o}\\a HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"user", "GET http://user@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"user and password", "GET http://user:pass@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"empty user", "GET http://@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"fragment", "GET http://{o}/#a HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"fragment before an @", "GET http://a#@{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"port 0", "GET http://127.0.0.1:0/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"port 65536", "GET http://127.0.0.1:65536/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"two ports", "GET http://{o}:80/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"percent in the host", "GET http://%31{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"non-ASCII host", "GET http://b\xc3\xbccher.example/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"ftp", "GET ftp://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1003", false, ""},
	{"ftp with a body", "POST ftp://{o}/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 3\r\n\r\nabc", 400, "1003", false, ""},
	{"ws", "GET ws://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1003", false, ""},
	{"file", "GET file:///etc/passwd HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1003", false, ""},
	{"ftp without a Host", "GET ftp://{o}/ HTTP/1.1\r\n\r\n", 400, "1002", false, ""},
	{"no Host", "GET http://{o}/ HTTP/1.1\r\n\r\n", 400, "1002", false, ""},
	{"no Host but a body", "POST http://{o}/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400, "1002", false, ""},
	{"empty Host", "GET http://{o}/ HTTP/1.1\r\nHost:\r\n\r\n", 400, "1002", false, ""},
	{"Host of white space", "GET http://{o}/ HTTP/1.1\r\nHost: \t \r\n\r\n", 400, "1002", false, ""},
	{"Host with a space", "GET http://{o}/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "1002", false, ""},
	{"Host list", "GET http://{o}/ HTTP/1.1\r\nHost: {o}, {o}\r\n\r\n", 400, "1002", false, ""},
	{"Host with a path", "GET http://{o}/ HTTP/1.1\r\nHost: {o}/\r\n\r\n", 400, "1002", false, ""},
	{"Host with a user", "GET http://{o}/ HTTP/1.1\r\nHost: a@{o}\r\n\r\n", 400, "1002", false, ""},
	{"Host with a bad port", "GET http://{o}/ HTTP/1.1\r\nHost: a:b\r\n\r\n", 400, "1002", false, ""},
	{"refused port", "GET http://127.0.0.1:25/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 403, "1013", false, ""},
	{"refused port with a body", "POST http://127.0.0.1:25/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 3\r\n\r\nabc", 403, "1013", false, ""},
	{"refused port with a malformed body", "POST http://127.0.0.1:25/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n0x\r\n", 400, "1002", true, ""},
	{"refused address", "GET http://127.0.0.2/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 403, "1000", false, ""},
	{"refused address with a body", "POST http://127.0.0.2/ HTTP/1.1\r\nHost: {o}\r\nContent-Length: 3\r\n\r\nabc", 403, "1000", false, ""},
	{"refused address with a malformed body", "POST http://127.0.0.2/ HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\n0x\r\n", 400, "1002", true, ""},
	{"unknown alias", "GET~X-WhSentry-TLS: true\r\nX-WhSentry-ClientCert: nobody\r\n\r\n", 400, "1010", false, ""},
	{"two aliases", "GET~X-WhSentry-TLS: true\r\nX-WhSentry-ClientCert: a\r\nX-WhSentry-ClientCert: a\r\n\r\n", 400, "1010", false, ""},
	{"CONNECT without a port", "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"CONNECT with a URI", "CONNECT http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"CONNECT with a path", "CONNECT {o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"CONNECT with a user", "CONNECT a@{o} HTTP/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", false, ""},
	{"CONNECT without a Host", "CONNECT {o} HTTP/1.1\r\n\r\n", 400, "1002", false, ""},
	{"CONNECT to a refused port", "CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: {o}\r\n\r\n", 403, "1013", false, ""},
	{"CONNECT to a refused address", "CONNECT 127.0.0.2:80 HTTP/1.1\r\nHost: {o}\r\n\r\n", 403, "1000", false, ""},
}

// versionRows are about HTTP/1.0, and about versions that there are not.
var versionRows = []requestRow{
	{"1.0", "GET http://{o}/ HTTP/1.0\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"1.0 with a Host", "GET http://{o}/ HTTP/1.0\r\nHost: a\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"1.0 with an empty Host", "GET http://{o}/ HTTP/1.0\r\nHost:\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"1.0 with a malformed Host", "GET http://{o}/ HTTP/1.0\r\nHost: a b\r\n\r\n", 400, "1002", true, ""},
	{"1.0 with a body", "POST http://{o}/ HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 200, "", true, "POST~Content-Length: 3\r\nUA~\r\nabc"},
	{"1.0 that stays", "GET http://{o}/ HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, "", false, "GET~UA~\r\n"},
	{"1.0 that stays, refused", "GET http://127.0.0.2/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 403, "1000", false, ""},
	{"1.0 with Proxy-Connection", "GET http://{o}/ HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", 200, "", true, "GET~UA~\r\n"},
	{"1.0 with Expect", "POST http://{o}/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", 200, "", true, "POST~Content-Length: 1\r\nUA~\r\nx"},
	{"HEAD, refused", "HEAD http://127.0.0.2/ HTTP/1.1\r\nHost: {o}\r\n\r\n", 403, "1000", false, ""},
	{"HEAD, malformed", "HEAD http://127.0.0.1/ HTTP/1.1\r\nHost : {o}\r\n\r\n", 400, "1002", true, ""},
	{"1.0, refused", "GET http://127.0.0.2/ HTTP/1.0\r\n\r\n", 403, "1000", true, ""},
	{"0.9", "GET http://{o}/\r\n\r\n", 400, "1002", true, ""},
	{"0.9 with a version", "GET http://{o}/ HTTP/0.9\r\n\r\n", 400, "1002", true, ""},
	{"1.2", "GET http://{o}/ HTTP/1.2\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"2.0", "GET http://{o}/ HTTP/2.0\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"2", "GET http://{o}/ HTTP/2\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "1002", true, ""},
	{"1.1 with zeros", "GET http://{o}/ HTTP/01.01\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"1,1", "GET http://{o}/ HTTP/1,1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"small letters", "GET http://{o}/ http/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
	{"another protocol", "GET http://{o}/ ICY/1.1\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
}

// TestRequestFraming sends each request alone, byte by byte, and with another behind it in the same write. The other
// is for a destination of its own: after a refusal that closes it must not be served, and otherwise it must.
func TestRequestFraming(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	next := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
	for _, row := range requestRows {
		t.Run(row.name, func(t *testing.T) {
			for _, how := range []struct {
				name string
				send func(c *rawConn, raw, behind string)
			}{
				{"alone", func(c *rawConn, raw, _ string) { c.send(raw) }},
				{"byte by byte", func(c *rawConn, raw, _ string) { c.dribble(raw) }},
				{"pipelined", func(c *rawConn, raw, behind string) { c.send(raw + behind) }},
			} {
				if how.name == "pipelined" && strings.HasPrefix(row.raw, "CONNECT ") {
					continue // what follows is for the tunnel: TestBytesBehindARefusedConnect
				}
				row.run(t, s, next, how.name, how.send)
			}
		})
	}
}

// unjudging is an origin that answers every request with okResponse and does not mind what its target is.
func unjudging(t *testing.T) *origin {
	t.Helper()
	return newOrigin(t, func(c *originConn) {
		for {
			length := 0
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = c.r.ReadString('\n'); err != nil {
					return
				}
				fmt.Sscanf(strings.ToLower(line), "content-length: %d\r\n", &length)
			}
			if _, err := io.CopyN(io.Discard, c.r, int64(length)); err != nil {
				return
			}
			io.WriteString(c, okResponse)
		}
	})
}

// dribble sends raw a byte at a time, as far as the other side takes it.
func (c *rawConn) dribble(raw string) {
	for i := range len(raw) {
		if _, err := c.Write([]byte{raw[i]}); err != nil {
			return
		}
	}
}

func (row requestRow) run(t *testing.T, s *sentry, next *origin, how string, send func(c *rawConn, raw, behind string)) {
	t.Helper()
	o := unjudging(t)
	before := next.connections()
	address := strings.NewReplacer("{o}", o.addr)
	c := s.dial()
	c.t = t
	defer c.Close()
	send(c, address.Replace(row.raw), get(next, "/behind"))
	method, _, _ := strings.Cut(row.raw, " ")
	r := c.receiveRefusable(method)
	if r.code() != row.status || r.reason() != row.reason {
		t.Fatalf("%s: got %s with reason %q (%s); want %d with %q", how, r.status, r.reason(), r.body, row.status, row.reason)
	}
	if row.reason == "" && r.body != "ok" {
		t.Errorf("%s: got the body %q; want ok", how, r.body)
	}
	if r.closing != row.closed {
		t.Errorf("%s: got Connection: close %v; want %v", how, r.closing, row.closed)
	}
	if row.closed {
		if !c.ended() {
			t.Errorf("%s: got the connection open; want it closed", how)
		}
		if got := next.connections(); got != before {
			t.Errorf("%s: got the request behind served; want it dropped", how)
		}
	} else {
		if how != "pipelined" {
			c.send(get(next, "/behind"))
		}
		if r := c.receive("GET"); r.code() != 200 || r.body != "next" {
			t.Errorf("%s: got %s, %q behind it; want 200, next", how, r.status, r.body)
		}
	}
	if got, want := o.bytes(), address.Replace(row.sent); got != want {
		t.Errorf("%s: got %q at the destination; want %q", how, got, want)
	}
	want := 1
	if row.sent == "" {
		want = 0
	}
	if got := o.connections(); got != want {
		t.Errorf("%s: got %d connections at the destination; want %d", how, got, want)
	}
}

// receiveRefusable is receive for a method of which the answer may be a refusal: that of a CONNECT has a body too.
func (c *rawConn) receiveRefusable(method string) *response {
	c.t.Helper()
	if method == "CONNECT" {
		method = "GET"
	}
	return c.receive(method)
}

// TestManyInOneWrite sends several requests in one write: each is answered in its turn, and none twice.
func TestManyInOneWrite(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	echo := responding(t, func(c *originConn, body string) bool {
		_, err := io.WriteString(c, withLength("<"+body+">"))
		return err == nil
	})
	var all strings.Builder
	const n = 50
	for i := range n {
		switch i % 3 {
		case 0:
			all.WriteString(get(echo, "/"))
		case 1:
			all.WriteString(post(echo, "/", fmt.Sprint("body ", i)))
		case 2:
			all.WriteString(postChunked(echo, "/", fmt.Sprint("chunks ", i), 3))
		}
	}
	all.WriteString("GET http://" + echo.addr + "/ HTTP/1.1\r\nHost: " + echo.addr + "\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n")
	all.WriteString(get(echo, "/never"))
	c := s.dial()
	c.send(all.String())
	for i := range n {
		want := []string{"<>", fmt.Sprintf("<body %d>", i), fmt.Sprintf("<chunks %d>", i)}[i%3]
		if r := c.receive("GET"); r.code() != 200 || r.body != want {
			t.Fatalf("request %d: got %s, %q; want 200, %q", i, r.status, r.body, want)
		}
	}
	if r := c.receive("GET"); r.code() != 400 || r.reason() != "1002" || !r.closing {
		t.Errorf("the malformed one: got %s, %s; want 400, 1002 and a close", r.status, r.reason())
	}
	if !c.ended() {
		t.Error("got the connection open; want it closed")
	}
	if got := strings.Count(echo.bytes(), " HTTP/1.1\r\n"); got != n || strings.Contains(echo.bytes(), "never") {
		t.Errorf("got %d requests at the destination; want %d, and not the last", got, n)
	}
	if lines := s.logLines(n + 1); len(lines) != n+1 {
		t.Errorf("got %d lines in the log; want %d", len(lines), n+1)
	}
}

// TestHeadAndBodySplit cuts one request of each framing at every byte.
func TestHeadAndBodySplit(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	want := "POST / HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 5\r\n" + ua + "\r\nhello"
	sent := 0
	for _, raw := range []string{post(o, "/", "hello"), postChunked(o, "/", "hello", 2)} {
		for cut := 1; cut < len(raw); cut += 3 {
			c := s.dial()
			c.send(raw[:cut])
			time.Sleep(time.Millisecond) // so that most arrive apart; nothing depends on it
			c.send(raw[cut:])
			if r := c.receive("POST"); r.code() != 200 {
				t.Fatalf("cut at %d: got %s; want 200", cut, r.status)
			}
			c.Close()
			sent++
		}
	}
	if got := o.bytes(); got != strings.Repeat(want, sent) {
		t.Errorf("got %d bytes at the destination; want %d requests, all the same", len(got), sent)
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxRequestBodySize = 100 })
	const expect = "POST http://%s/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n"
	const continued = "HTTP/1.1 100 Continue\r\n\r\n"
	for _, tt := range []struct {
		name, to, fields string // to: "" for the destination
		body             string // sent after the 100
		status           int
		reason           string
	}{
		{"a length", "", "Content-Length: 3\r\n", "abc", 200, ""},
		{"chunked", "", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n", 200, ""},
		{"in other letters", "", "EXPECT: 100-CONTINUE\r\nContent-Length: 3\r\n", "abc", 200, ""},
		{"a malformed body", "", "Transfer-Encoding: chunked\r\n", "3\nabc", 400, "1002"},
		{"a body too large, chunked", "", "Transfer-Encoding: chunked\r\n", "65\r\n" + pattern(0x65) + "\r\n0\r\n\r\n", 413, "1012"},
		{"a body too large", "", "Content-Length: 101\r\n", "", 413, "1012"},
		{"both framings", "", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "", 400, "1002"},
		{"a refused port", "127.0.0.1:25", "Content-Length: 3\r\n", "", 403, "1013"},
		{"a refused address", "127.0.0.2", "Content-Length: 3\r\n", "", 403, "1000"},
		{"a refused address, chunked", "127.0.0.2", "Transfer-Encoding: chunked\r\n", "", 403, "1000"},
		{"a refused name", "localhost", "Content-Length: 3\r\n", "", 0, ""},
		{"a malformed target", "127.1", "Content-Length: 3\r\n", "", 400, "1002"},
	} {
		if tt.status == 0 {
			continue // localhost is 127.0.0.1, which may be reached here
		}
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, okResponse)
			to := tt.to
			if to == "" {
				to = o.addr
			}
			c := s.dial()
			c.send(fmt.Sprintf(expect, to, tt.fields))
			if tt.body != "" {
				if got := c.readHead(); got != continued {
					t.Fatalf("got %q; want %q", got, continued)
				}
				if o.connections() != 0 {
					t.Error("got the destination contacted before the body was there")
				}
				c.send(tt.body)
			}
			r := c.receive("POST")
			if r.code() != tt.status || r.reason() != tt.reason {
				t.Fatalf("got %s, %s; want %d, %s", r.status, r.reason(), tt.status, tt.reason)
			}
			if tt.status != 200 {
				if !r.closing || !c.ended() {
					t.Error("got the connection open; want it closed, for it is not known whether the body comes")
				}
				if o.connections() != 0 {
					t.Errorf("got %d connections at the destination; want none", o.connections())
				}
				return
			}
			want := "POST / HTTP/1.1\r\nHost: " + o.addr + "\r\nContent-Length: 3\r\n" + ua + "\r\nabc"
			if got := o.bytes(); got != want {
				t.Errorf("got %q at the destination; want %q", got, want)
			}
			c.send(get(o, "/again"))
			if r := c.receive("GET"); r.code() != 200 {
				t.Errorf("got %s after it; want 200", r.status)
			}
		})
	}
}

// TestExpectWithTheBodyAlreadyThere holds that a client that does not wait for a 100 is not confused by one.
func TestExpectWithTheBodyAlreadyThere(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	c.send("POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + get(o, "/2"))
	for range 2 {
		for {
			head := c.readHead()
			if strings.HasPrefix(head, "HTTP/1.1 100 ") {
				continue
			}
			if !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("got %q; want a 200", head)
			}
			break
		}
		if _, err := io.ReadFull(c.r, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(o.bytes(), " HTTP/1.1\r\n"); got != 2 || strings.Contains(o.bytes(), "xpect") {
		t.Errorf("got %q at the destination; want two requests without Expect", o.bytes())
	}
}

// TestExpectOfTheDestination holds that a destination's own 100 does not reach the client.
func TestExpectOfTheDestination(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, "HTTP/1.1 100 Continue\r\nX-A: 1\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"+okResponse)
	c := s.dial()
	for range 3 {
		c.send(post(o, "/", "abc"))
		if got, want := c.readHead(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"; got != want {
			t.Fatalf("got %q; want %q", got, want)
		}
		io.ReadFull(c.r, make([]byte, 2))
	}
	if got := o.connections(); got != 1 {
		t.Errorf("got %d connections at the destination; want 1", got)
	}
}

// responseRow is a response, byte for byte, and all that comes of it.
type responseRow struct {
	name, raw string
	method    string // "": GET
	hangsUp   bool   // the destination closes its connection behind it
	want      string // what the client gets, byte for byte; "" for a 502
	reason    string // of a 502
	reused    bool   // the destination's connection serves another request
}

const untidyHint = "a response that is tidied ends its connection"

// responseRows is the corpus of responses.
var responseRows = []responseRow{
	{"a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", true},
	{"letters, order, Server and Date", "HTTP/1.1 299 So so\r\nserver: x\r\nDATE: y\r\nX-b: 1\r\nx-A: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\ncontent-LENGTH: 002\r\nZ:\r\n\r\nok", "", false,
		"HTTP/1.1 299 So so\r\nserver: x\r\nDATE: y\r\nX-b: 1\r\nx-A: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\ncontent-LENGTH: 2\r\nZ:\r\n\r\nok", "", true},
	{"no phrase", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "", true},
	{"no phrase and no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "", true},
	{"bytes beyond ASCII", "HTTP/1.1 200 \xc3\xa4\xff\r\nA: \xfe\x80\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 200 \xc3\xa4\xff\r\nA: \xfe\x80\r\nContent-Length: 0\r\n\r\n", "", true},
	{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;a=b\r\nk\r\n0\r\n\r\n", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", true},
	{"chunked with trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: 1\r\nX-WhSentry-Reason: 2\r\n\r\n", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", true},
	{"until close", "HTTP/1.1 200 OK\r\n\r\nok", "", true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"until close, empty", "HTTP/1.1 200 OK\r\n\r\n", "", true, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false},
	{"close announced", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "", true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"1.0 until close", "HTTP/1.0 200 OK\r\n\r\nok", "", true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"1.0 keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", true},

	{"hop-by-hop", "HTTP/1.1 200 OK\r\nConnection: X-A, keep-alive\r\nKeep-Alive: 5\r\nx-a: 1\r\nUpgrade: h2c\r\nTE: a\r\nTrailer: b\r\nB: 1\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 200 OK\r\nB: 1\r\nContent-Length: 0\r\n\r\n", "", true},
	{"Proxy-*", "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nProxy-Connection: close\r\nproxy-status: a\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "", true},
	{"forged reason", "HTTP/1.1 403 Forbidden\r\nX-WhSentry-Reason: IP is blocked\r\nX-WhSentry-ReasonCode: 1000\r\nx-whsentry-foo: 1\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", true},
	{"forged reason in a fold", "HTTP/1.1 403 Forbidden\r\nX-WhSentry-Reason: a\r\n X-WhSentry-ReasonCode: 1000\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", false},

	{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", "HEAD", false, "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n", "", true},
	{"HEAD, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", false, "HTTP/1.1 200 OK\r\n\r\n", "", true},
	{"HEAD without a length", "HTTP/1.1 200 OK\r\n\r\n", "HEAD", false, "HTTP/1.1 200 OK\r\n\r\n", "", true},
	{"HEAD with a body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HEAD", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "", false},
	{"204", "HTTP/1.1 204 No Content\r\n\r\n", "", false, "HTTP/1.1 204 No Content\r\n\r\n", "", true},
	{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "", false, "HTTP/1.1 204 No Content\r\n\r\n", "", true},
	{"204 with a body", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 204 No Content\r\n\r\n", "", false},
	{"204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", false, "HTTP/1.1 204 No Content\r\n\r\n", "", false},
	{"304", "HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 2\r\n\r\n", "", false, "HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 2\r\n\r\n", "", true},
	{"304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "", false},
	{"205", "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", "", true},

	{"bytes behind the body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"a byte behind the body", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\n", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"bytes behind the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 500 Forged\r\n\r\n", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"two responses to a HEAD", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n", "HEAD", false, "HTTP/1.1 200 OK\r\n\r\n", "", false},

	{"bare LF", "HTTP/1.1 200 OK\nA: 1\nContent-Length: 2\n\nok", "", false, "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"bare LF after the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"bare LF as the empty line", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"bare LF, HEAD", "HTTP/1.1 200 OK\n\n", "HEAD", false, "HTTP/1.1 200 OK\r\n\r\n", "", false},
	{"folded", "HTTP/1.1 200 OK\r\nA: 1\r\n\t2\r\n 3\r\nContent-Length: 2\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nA: 1  \t2   3\r\nContent-Length: 2\r\n\r\nok", "", false},
	{"folded, what looks like a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: 1\r\n Content-Length: 3\r\n\r\nok", "", false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: 1   Content-Length: 3\r\n\r\nok", "", false},
	{"untidy until close", "HTTP/1.1 200 OK\nA: 1\n 2\n\nok", "", true, "HTTP/1.1 200 OK\r\nA: 1  2\r\nContent-Length: 2\r\n\r\nok", "", false},

	{"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-WhSentry-Reason: a\r\nConnection: b\r\nb: 1\r\n\r\n" + okResponse, "", false, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okResponse, "", true},
	{"three interim ones", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n" + okResponse, "", false, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 Odd\r\n\r\n" + okResponse, "", true},
	{"interim with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + okResponse, "", false, "HTTP/1.1 103 Early Hints\r\n\r\n" + okResponse, "", true},
	{"untidy interim", "HTTP/1.1 103 Early Hints\nLink: a\n b\n\n" + okResponse, "", false, "HTTP/1.1 103 Early Hints\r\nLink: a  b\r\n\r\n" + okResponse, "", false},

	{"101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: Upgrade\r\n\r\n", "", false, "", "1011", false},
	{"101 and bytes", "HTTP/1.1 101 Switching Protocols\r\n\r\n" + okResponse, "", false, "", "1011", false},
	{"status 000", "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"status 099", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"status 600", "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"status that is text", "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"two spaces before the status", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"tab before the status", "HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"version 2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"version 1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"version 0.9", "<html>ok</html>", "", true, "", "1011", false},
	{"a protocol that speaks first", "220 mail.example ESMTP", "", false, "", "1011", false},
	{"ICY", "ICY 200 OK\r\n\r\n", "", false, "", "1011", false},
	{"an empty line in front", "\r\n" + okResponse, "", false, "", "1011", false},
	{"control byte in the phrase", "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"bare CR in the phrase", "HTTP/1.1 200 OK\rA: b\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"bare CR in a value", "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"CR CR LF", "HTTP/1.1 200 OK\r\nA: b\r\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "", false, "", "1011", false},
	{"space in a name", "HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"no name", "HTTP/1.1 200 OK\r\n: c\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"no colon", "HTTP/1.1 200 OK\r\nabc\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"folded first field", "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"folded length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n 3\r\n\r\nok", "", false, "", "1011", false},
	{"folded length below nothing", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok", "", false, "", "1011", false},
	{"folded coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"both framings", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"both framings, HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", false, "", "1011", false},
	{"same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\nok", "", false, "", "1011", false},
	{"length list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "", false, "", "1011", false},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", "", false, "", "1011", false},
	{"length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "", false, "", "1011", false},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", "", true, "", "1011", false},
	{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", "", true, "", "1011", false},
	{"gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"chunked of 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"malformed interim", "HTTP/1.1 103 Early Hints\r\nA : b\r\n\r\n" + okResponse, "", false, "", "1011", false},

	{"nothing", "", "", true, "", "1011", false},
	{"half a status line", "HTTP/1.1 20", "", true, "", "1011", false},
	{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", "", true, "", "1011", false},
	{"a head without its empty line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "", true, "", "1011", false},
	{"an interim one alone", "HTTP/1.1 100 Continue\r\n\r\n", "", true, "", "1011", false},
	{"a body cut short", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "", true, "", "1011", false},
	{"no body at all", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", true, "", "1011", false},
	{"chunks cut in the data", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", "", true, "", "1011", false},
	{"chunks cut between two", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "", true, "", "1011", false},
	{"chunks cut before the last line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "", true, "", "1011", false},
	{"chunks cut in a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n", "", true, "", "1011", false},
	{"chunk size 0x", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"chunk size with a space", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"chunks with bare LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n", "", false, "", "1011", false},
	{"chunk that overflows", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"chunk too long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n", "", false, "", "1011", false},
	{"malformed trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA : b\r\n\r\n", "", false, "", "1011", false},
	{"length for a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n", "", false, "", "1011", false},
}

// TestResponseFraming has each response sent in one piece and byte by byte. Behind each the client asks the same
// destination for another: it must get that one's own answer, on the old connection or a new one as it is due.
func TestResponseFraming(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, row := range responseRows {
		t.Run(row.name, func(t *testing.T) {
			row.run(t, s, false)
			row.run(t, s, true)
		})
	}
}

const secondResponse = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"

func (row responseRow) run(t *testing.T, s *sentry, dribbled bool) {
	t.Helper()
	o := newOrigin(t, func(oc *originConn) {
		for {
			req, _, ok := oc.request()
			if !ok {
				return
			}
			if req.RequestURI == "/2" {
				io.WriteString(oc, secondResponse)
				continue
			}
			if dribbled {
				(&rawConn{Conn: oc.Conn}).dribble(row.raw)
			} else {
				io.WriteString(oc, row.raw)
			}
			if row.hangsUp {
				return
			}
		}
	})
	method := row.method
	if method == "" {
		method = "POST"
	}
	c := s.dial()
	c.t = t
	defer c.Close()
	c.send(method + " http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if row.want == "" {
		r := c.receive(method)
		if r.code() != 502 || r.reason() != row.reason || r.closing {
			t.Fatalf("dribbled %v: got %s, %s, closing %v; want 502, %s, false", dribbled, r.status, r.reason(), r.closing, row.reason)
		}
	} else {
		got := make([]byte, len(row.want))
		n, err := io.ReadFull(c.r, got)
		if err != nil || string(got) != row.want {
			t.Fatalf("dribbled %v: got %q, %v; want %q", dribbled, got[:n], err, row.want)
		}
	}
	if got := strings.Count(o.bytes(), " / HTTP/1.1\r\n"); got != 1 {
		t.Errorf("dribbled %v: got the request %d times at the destination; want once", dribbled, got)
	}
	c.send(get(o, "/2"))
	got := make([]byte, len(secondResponse))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != secondResponse {
		t.Fatalf("dribbled %v: got %q, %v for the second request; want %q", dribbled, got[:n], err, secondResponse)
	}
	if reused := o.connections() == 1; reused != row.reused && !(dribbled && row.reused) {
		t.Errorf("dribbled %v: got %d connections at the destination; want reuse to be %v (%s)", dribbled, o.connections(), row.reused, untidyHint)
	}
}

// TestInterimForOldClients holds that a client of HTTP/1.0 gets no interim response.
func TestInterimForOldClients(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okResponse)
	c := s.dial()
	c.send("GET http://" + o.addr + "/ HTTP/1.0\r\n\r\n")
	got, _ := io.ReadAll(c.r)
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"; string(got) != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

// TestOldClients is about what a client of HTTP/1.0 gets.
func TestOldClients(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	large := pattern(200_000)
	for _, tt := range []struct {
		name, fields, answer string
		hangsUp              bool
		want                 string // all that the client gets up to the end of the connection
	}{
		{"chunked becomes a length", "", chunked("ok", 1), false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		{"until close becomes a length", "", untilClose("ok"), true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		{"large chunked ends with the connection", "", chunked(large, 1000), false, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large until close ends with the connection", "", untilClose(large), true, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large chunked ends with the connection that was to stay", "Connection: keep-alive\r\n", chunked(large, 1000), false, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"large length", "", withLength(large), false, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nConnection: close\r\n\r\n" + large},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, tt.answer)
			if tt.hangsUp {
				o = answeringOnce(t, tt.answer)
			}
			c := s.dial()
			c.send("GET http://" + o.addr + "/ HTTP/1.0\r\n" + tt.fields + "\r\n")
			got, err := io.ReadAll(c.r)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %d bytes %.80q, %v; want %d %.80q", len(got), got, err, len(tt.want), tt.want)
			}
		})
	}
}

// TestTheEndOverTLS holds that a client of an https listener is told by TLS, too, that the connection ends: without that
// a body that ends with it looks cut.
func TestTheEndOverTLS(t *testing.T) {
	t.Parallel()
	root := catest.Root(t, "root")
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) {
		httpsListener(t, cfg, root.Leaf(t, "proxy.test"))
	})
	large := pattern(200_000)
	for _, tt := range []struct{ name, answer, request, want string }{
		{"a body that ends with the connection", chunked(large, 1000), " HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + large},
		{"Connection: close", okResponse, " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := answering(t, tt.answer)
			plain := s.dial()
			var wire bytes.Buffer
			plain.r = bufio.NewReader(io.TeeReader(plain.Conn, &wire))
			c := plain.secure(only(clientConfig(root, "proxy.test"), tls.VersionTLS12))
			c.send("GET http://" + o.addr + "/" + tt.request)
			got, err := io.ReadAll(c.r)
			if err != nil || string(got) != tt.want {
				t.Errorf("got %d bytes %.80q, %v; want %d %.80q", len(got), got, err, len(tt.want), tt.want)
			}
			const alert = 21
			if types := records(wire.String()); types[len(types)-1] != alert {
				t.Errorf("got a record of type %d last; want an alert, the close_notify", types[len(types)-1])
			}
		})
	}
}

// TestCutRequests holds that a request that is not there in full reaches nobody.
func TestCutRequests(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	whole := []string{post(o, "/", "hello"), postChunked(o, "/", "hello", 2)}
	cuts := 0
	for _, raw := range whole {
		for cut := 1; cut < len(raw); cut += 5 {
			c := s.dial()
			c.send(raw[:cut])
			c.halfClose()
			if got, _ := io.ReadAll(c.r); len(got) != 0 {
				t.Errorf("%q: got %q; want nothing", raw[:cut], got)
			}
			c.Close()
			cuts++
		}
	}
	for _, line := range s.logLines(cuts) {
		if !strings.Contains(line, " 499 ") {
			t.Errorf("got %q; want a 499", line)
		}
	}
	if got := o.connections(); got != 0 {
		t.Errorf("got %d connections at the destination; want none", got)
	}
}

// TestIPv6Destination is about an address in brackets.
func TestIPv6Destination(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() { // ends with the one connection, or with the listener
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		head := newRawConn(t, conn).readHead()
		io.WriteString(conn, okResponse)
		got <- head
	}()
	s := start(t, func(_ *proxy.Config, g *guard.Config) { g.AllowList = []netip.Prefix{netip.MustParsePrefix("::1/128")} })
	c := s.dial()
	c.send("GET http://" + ln.Addr().String() + "/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if r := c.receive("GET"); r.code() != 200 {
		t.Fatalf("got %s, %s; want 200", r.status, r.body)
	}
	if head, want := <-got, "GET / HTTP/1.1\r\nHost: "+ln.Addr().String()+"\r\n"+ua+"\r\n"; head != want {
		t.Errorf("got %q at the destination; want %q", head, want)
	}
}

// TestBytesBehindARefusedConnect holds that what was meant for a tunnel is not taken for another request.
func TestBytesBehindARefusedConnect(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	c.send("CONNECT 127.0.0.2:80 HTTP/1.1\r\nHost: a\r\n\r\n" + get(o, "/inside"))
	if r := c.receive("GET"); r.code() != 403 || r.reason() != "1000" || !r.closing {
		t.Errorf("got %s, %s, closing %v; want 403, 1000, true", r.status, r.reason(), r.closing)
	}
	if !c.ended() || o.connections() != 0 {
		t.Errorf("got the connection going on, %d to the destination; want it closed, and none", o.connections())
	}
}

// TestOldClientThatStays holds that an HTTP/1.0 client that asks for keep-alive is told that it has it, also by a
// refusal: without that it would wait for the connection's end.
func TestOldClientThatStays(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	o := answering(t, okResponse)
	c := s.dial()
	for range 2 {
		for _, to := range []string{o.addr, "127.0.0.2"} {
			c.send("GET http://" + to + "/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			if r := c.receive("GET"); r.header.Get("Connection") != "keep-alive" {
				t.Errorf("%s: got %s with Connection %q; want keep-alive", to, r.status, r.header.Get("Connection"))
			}
		}
	}
}

// TestHeadsWithoutEnd holds that neither side can keep the proxy reading.
func TestHeadsWithoutEnd(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = 8 << 10 })
	o := answering(t, okResponse)
	for _, tt := range []struct {
		name, begin, part string
		status            int
		reason            string
	}{
		{"a field", "GET http://" + o.addr + "/ HTTP/1.1\r\nA: ", "aaaaaaaa", 431, "1012"},
		{"fields", "GET http://" + o.addr + "/ HTTP/1.1\r\n", "A: b\r\n", 431, "1012"},
		{"a target", "GET http://" + o.addr + "/", "aaaaaaaa", 431, "1012"},
		{"a method", "GET", "TTTTTTTT", 431, "1012"},
		{"empty lines", "", "\r\n", 431, "1012"},
		{"a chunk's extension", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaa", 400, "1002"},
		{"many chunks' extensions", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1;aaaaaaaaaaaaa\r\na\r\n", 400, "1002"},
		{"a trailer", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "aaaaaaaa", 431, "1012"},
		{"trailers", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", 431, "1012"},
		{"a chunk's size", "POST http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000", 400, "1002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.dial()
			c.send(tt.begin + strings.Repeat(tt.part, 64<<10/len(tt.part)))
			r := c.receive("GET")
			if r.code() != tt.status || r.reason() != tt.reason || !r.closing {
				t.Errorf("got %s, %s, closing %v; want %d, %s and a close", r.status, r.reason(), r.closing, tt.status, tt.reason)
			}
			if !c.ended() {
				t.Error("got the connection open; want it closed")
			}
		})
	}
	if got := o.connections(); got != 0 {
		t.Errorf("got %d connections at the destination; want none", got)
	}
}

func TestResponsesWithoutEnd(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = 8 << 10 })
	for _, tt := range []struct{ name, begin, part string }{
		{"a status line", "HTTP/1.1 200 ", "aaaaaaaa"},
		{"a field", "HTTP/1.1 200 OK\r\nA: ", "aaaaaaaa"},
		{"fields", "HTTP/1.1 200 OK\r\n", "A: b\r\n"},
		{"folds", "HTTP/1.1 200 OK\r\nA: b\r\n", " c\r\n"},
		{"blank folds", "HTTP/1.1 200 OK\r\nA: b\r\n", " \n"},
		{"100s", "", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"103s", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		{"an extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "aaaaaaaa"},
		{"extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;aaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n"},
		{"a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", "aaaaaaaa"},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"},
		{"a size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := newOrigin(t, func(oc *originConn) {
				if _, _, ok := oc.request(); !ok {
					return
				}
				io.WriteString(oc, tt.begin)
				for part := []byte(strings.Repeat(tt.part, 64)); ; {
					if _, err := oc.Write(part); err != nil {
						return
					}
				}
			})
			c := s.dial()
			c.send(get(o, "/"))
			var all bytes.Buffer
			c.r.Reset(io.TeeReader(c.Conn, &all))
			r := c.receive("GET")
			for r.code() == 103 {
				r = c.receive("GET")
			}
			if r.code() != 502 || r.reason() != "1011" {
				t.Errorf("got %s, %s; want 502, 1011", r.status, r.reason())
			}
			if all.Len() > 16<<10 {
				t.Errorf("got %d bytes; want them bounded", all.Len())
			}
		})
	}
}

// TestInterimsCountApart holds that interim responses have a limit of their own, together, and the final head its own.
func TestInterimsCountApart(t *testing.T) {
	t.Parallel()
	const limit = 8 << 10
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = limit })
	interim := "HTTP/1.1 103 Early Hints\r\nA: " + pattern(limit/2-64) + "\r\n\r\n"
	final := "HTTP/1.1 200 OK\r\nA: " + pattern(limit-128) + "\r\nContent-Length: 0\r\n\r\n"
	o := answering(t, interim+interim+final)
	c := s.dial()
	c.send(get(o, "/"))
	if got := c.readHead() + c.readHead() + c.readHead(); got != interim+interim+final {
		t.Errorf("got %d bytes; want both interim responses and the final one", len(got))
	}
	o = answering(t, interim+interim+interim+final)
	c = s.dial()
	c.send(get(o, "/"))
	if got := c.readHead() + c.readHead(); got != interim+interim {
		t.Errorf("got %d bytes; want two interim responses", len(got))
	}
	if r := c.receive("GET"); r.code() != 502 || r.reason() != "1011" {
		t.Errorf("got %s, %s for the third; want 502, 1011", r.status, r.reason())
	}
}

// TestLargeHeads holds that a limit of several megabytes is one that can be used.
func TestLargeHeads(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.MaxHeaderSize = size })
	field := "A: " + pattern(size-1024) + "\r\n"
	o := answering(t, "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n")
	c := s.dial()
	c.send("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n" + field + "\r\n")
	if got, want := c.readHead(), "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n"; got != want {
		t.Errorf("got %d bytes; want %d", len(got), len(want))
	}
	if want := "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n" + field + ua + "\r\n"; o.bytes() != want {
		t.Errorf("got %d bytes at the destination; want %d", len(o.bytes()), len(want))
	}
}

// TestOwnUserAgent is about a proxy that has none.
func TestOwnUserAgent(t *testing.T) {
	t.Parallel()
	s := start(t, func(cfg *proxy.Config, _ *guard.Config) { cfg.UserAgent = "" })
	o := answering(t, okResponse)
	c := s.dial()
	var want string
	for _, fields := range []string{"", "User-Agent: curl/8\r\n", "user-AGENT: a b\r\nA: 1\r\n"} {
		c.send("GET http://" + o.addr + "/ HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
		c.receive("GET")
		want += "GET / HTTP/1.1\r\nHost: " + o.addr + "\r\n" + fields + "\r\n"
	}
	if got := o.bytes(); got != want {
		t.Errorf("got %q at the destination; want %q", got, want)
	}
}

// TestLateBytes holds that what a destination sends behind a response, when its connection rests already, reaches no
// other request.
func TestLateBytes(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	sent := make(chan struct{}, 1)
	o := newOrigin(t, func(oc *originConn) {
		for {
			req, _, ok := oc.request()
			if !ok {
				return
			}
			if req.RequestURI == "/2" {
				io.WriteString(oc, secondResponse)
				continue
			}
			io.WriteString(oc, okResponse)
			time.Sleep(20 * time.Millisecond) // until the connection rests; it may rest later, for nothing depends on it
			io.WriteString(oc, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
			sent <- struct{}{}
		}
	})
	c := s.dial()
	for range 5 {
		c.send(get(o, "/"))
		if r := c.receive("GET"); r.body != "ok" {
			t.Fatalf("got %q; want ok", r.body)
		}
		<-sent
		c.send(get(o, "/2"))
		if r := c.receive("GET"); r.body != "second" {
			t.Fatalf("got %q; want second", r.body)
		}
	}
}

// TestReasonInTheStatusLine is about what most clients show of a CONNECT that was refused.
func TestReasonInTheStatusLine(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, tt := range []struct{ name, raw, want string }{
		{"refused address", "CONNECT 127.0.0.2:443 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 IP 127.0.0.2 is blocked\r\n"},
		{"refused port", "CONNECT 127.0.0.1:25 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 port 25 is blocked\r\n"},
		{"malformed target", "CONNECT 127.1:25 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 malformed request: "},
		{"malformed head", "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "HTTP/1.1 400 malformed request: "},
		{"no CONNECT", "GET http://127.0.0.2/ HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 403 Forbidden\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := s.dial()
			c.send(tt.raw)
			if got := c.readHead(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q; want it to begin with %q", got, tt.want)
			}
		})
	}
}

// TestFramingInsideATunnel holds that a request inside an intercepted tunnel is judged as strictly as any, and that it
// goes to the tunnel's host and port or nowhere.
func TestFramingInsideATunnel(t *testing.T) {
	t.Parallel()
	root, issuer := catest.Root(t, "root"), catest.Root(t, "issuer")
	s := startTLS(t, root, func(cfg *ca.Config) {
		cfg.MITMIssuer.CertFile, cfg.MITMIssuer.KeyFile = issuer.Files(t)
	}, func(cfg *proxy.Config, _ *guard.Config) { cfg.ConnectMode = proxy.ConnectMITM })
	o := answeringTLS(t, serving(root.Leaf(t, hooksHost)), okResponse)
	authority := o.to(hooksHost)
	const line = " HTTP/1.1\r\nHost: {o}\r\n\r\n"
	rows := []requestRow{
		{"origin form", "GET /a/../b?c" + line, 200, "", false, "GET /a/../b?c HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"path of slashes", "GET //evil.test/" + line, 200, "", false, "GET //evil.test/ HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"absolute form", "GET https://{o}/a" + line, 200, "", false, "GET /a HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"of the server", "OPTIONS *" + line, 200, "", false, "OPTIONS * HTTP/1.1\r\nHost: {o}\r\n" + ua + "\r\n"},
		{"fragment", "GET /a#b" + line, 400, "1002", false, ""},
		{"fragment alone", "GET #" + line, 400, "1002", false, ""},
		{"another host", "GET https://other.test/" + line, 400, "1002", false, ""},
		{"another port", "GET https://" + hooksHost + ":1/" + line, 400, "1002", false, ""},
		{"another port by default", "GET https://" + hooksHost + "/" + line, 400, "1002", false, ""},
		{"http", "GET http://{o}/" + line, 400, "1002", false, ""},
		{"another Host", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", 400, "1002", false, ""},
		{"an address for a Host", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "1002", false, ""},
		{"another port in Host", "GET / HTTP/1.1\r\nHost: " + hooksHost + ":1\r\n\r\n", 400, "1002", false, ""},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, "1002", false, ""},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: {o}\r\nHost: {o}\r\n\r\n", 400, "1002", true, ""},
		{"asterisk of a GET", "GET *" + line, 400, "1002", false, ""},
		{"CONNECT", "CONNECT {o}" + line, 405, "1015", false, ""},
	}
	for _, table := range [][]requestRow{refusedHeadRows, refusedFramingRows, refusedBodyRows} {
		for _, row := range table {
			if strings.Contains(row.raw, "~") {
				row.raw = strings.Replace(row.raw, "~", " / HTTP/1.1\r\nHost: {o}\r\n", 1)
				rows = append(rows, row)
			}
		}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before := len(o.decrypted())
			outer := s.dial()
			outer.t = t
			outer.send("CONNECT " + authority + " HTTP/1.1\r\nHost: a\r\n\r\n")
			if head := outer.readHead(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("got %q; want a 200", head)
			}
			c := outer.secure(clientConfig(issuer, hooksHost))
			c.send(strings.ReplaceAll(row.raw, "{o}", authority))
			r := c.receive("GET")
			if r.code() != row.status || r.reason() != row.reason || r.closing != row.closed {
				t.Fatalf("got %s, %s, closing %v (%s); want %d, %s, %v", r.status, r.reason(), r.closing, r.body, row.status, row.reason, row.closed)
			}
			if want := strings.ReplaceAll(row.sent, "{o}", authority); o.decrypted()[before:] != want {
				t.Errorf("got %q at the destination; want %q", o.decrypted()[before:], want)
			}
			if row.closed {
				if !c.ended() {
					t.Error("got the connection open; want it closed")
				}
				return
			}
			c.send("GET /next HTTP/1.1\r\nHost: " + authority + "\r\n\r\n")
			if r := c.receive("GET"); r.code() != 200 {
				t.Errorf("got %s behind it; want 200", r.status)
			}
		})
	}
}
