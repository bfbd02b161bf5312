//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// kind is one sort of request in the load, and what must come of it.
type kind struct {
	name   string
	weight int    // of 1000 requests
	want   string // status and reason; those of a response that is cut are the log's
	cut    bool   // the client sees a response that is not whole
	noID   bool   // it can't be told from others in the log: the proxy need not have read its id
	build  func(l *loadTest, id int) string
}

// via is a request to the destination; behave is what the destination does (see respond).
func via(method, behave string, body int) func(l *loadTest, id int) string {
	return func(l *loadTest, id int) string {
		return head(method+" http://"+l.destination+"/load/"+strconv.Itoa(id), l.destination, id,
			"X-Behave: "+behave+"\r\nContent-Length: "+strconv.Itoa(body)+"\r\n") + content(id, body)
	}
}

// to is a request that does not get to the destination.
func to(start, host, more string) func(l *loadTest, id int) string {
	return func(l *loadTest, id int) string {
		number := strconv.Itoa(id)
		return head(strings.ReplaceAll(start, "ID", number), strings.ReplaceAll(host, "ID", number), id, more)
	}
}

func head(start, host string, id int, more string) string {
	return fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\nRequest-ID: load-%d\r\nX-Case: %d\r\n%s\r\n", start, host, id, id, more)
}

// content is a body that differs for every request.
func content(id, size int) string {
	unit := fmt.Sprintf("{%d}", id)
	return strings.Repeat(unit, size/len(unit)+1)[:size]
}

func chunkedPost(l *loadTest, id int) string {
	body := content(id, 2000)
	return head("POST http://"+l.destination+"/load/"+strconv.Itoa(id), l.destination, id, "Transfer-Encoding: chunked\r\n") +
		fmt.Sprintf("7d0\r\n%s\r\n0\r\n\r\n", body)
}

func closedPort(l *loadTest, id int) string {
	return head("POST http://"+l.closed+"/", l.closed, id, "Content-Length: 5\r\n") + "hello"
}

func tunnelled(l *loadTest, id int) string {
	return head("CONNECT "+l.destination, l.destination, id, "")
}

// private is 10.0.0.1 as a name (see answerQuery).
const private = "all.0a000001.rID.test"

// untidy names the kind whose answers are passed on tidied.
const untidy = "untidy answer"

// kinds are the outcomes that the load mixes; what is left of 1000 are more posts.
var kinds = []kind{
	{name: "post 1 KB", weight: 0, want: "200/0", build: via("POST", "", 1024)},
	{name: "get", weight: 250, want: "200/0", build: via("GET", "", 0)},
	{name: "post 16 KB", weight: 80, want: "200/0", build: via("POST", "", 16<<10)},
	{name: "post 100 KB", weight: 10, want: "200/0", build: via("POST", "", 100<<10)},
	{name: "post chunked", weight: 30, want: "200/0", build: chunkedPost},
	{name: "head", weight: 10, want: "200/0", build: via("HEAD", "", 0)},
	{name: "response 64 KiB", weight: 20, want: "200/0", build: via("POST", "size 65536", 64)},
	{name: "response 200 KB", weight: 10, want: "200/0", build: via("POST", "size 200000", 64)},
	{name: "response chunked", weight: 20, want: "200/0", build: via("POST", "chunked 30000", 64)},
	{name: "response closes", weight: 10, want: "200/0", build: via("POST", "close", 64)},
	{name: "status 204", weight: 10, want: "204/0", build: via("POST", "status 204", 64)},
	{name: "status 304", weight: 5, want: "304/0", build: via("GET", "status 304", 0)},
	{name: "status 404", weight: 20, want: "404/0", build: via("POST", "status 404", 64)},
	{name: "status 500", weight: 20, want: "500/0", build: via("POST", "status 500", 64)},
	{name: "refused address", weight: 30, want: "403/1000", build: to("GET http://169.254.169.254/latest", "169.254.169.254", "")},
	{name: "refused name", weight: 10, want: "403/1000", build: to("GET http://"+private+"/", private, "")},
	{name: "refused port", weight: 20, want: "403/1013", build: to("GET http://127.0.0.1:25/", "127.0.0.1:25", "")},
	{name: "no such name", weight: 20, want: "502/1001", build: to("GET http://nx-ID.test/", "nx-ID.test", "")},
	{name: "another scheme", weight: 10, want: "400/1003", build: to("GET ftp://127.0.0.1/", "127.0.0.1", "")},
	{name: "not absolute", weight: 10, want: "400/1002", noID: true, build: to("GET /load/ID", "127.0.0.1", "")},
	{name: "both framings", weight: 10, want: "400/1002", noID: true,
		build: to("POST http://127.0.0.1/", "127.0.0.1", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")},
	{name: "no such certificate", weight: 5, want: "400/1010",
		build: to("GET http://127.0.0.1/", "127.0.0.1", "X-WhSentry-TLS: 1\r\nX-WhSentry-ClientCert: nobody\r\n")},
	{name: "tunnel", weight: 10, want: "200/0", build: tunnelled},
	{name: "tunnel refused", weight: 5, want: "403/1000", build: to("CONNECT 10.0.0.1:443", "10.0.0.1:443", "")},
	{name: "connection refused", weight: 10, want: "502/1006", build: closedPort},
	{name: "slow", weight: 4, want: "502/1004", build: via("POST", "hang", 64)},
	{name: "stalls early", weight: 2, want: "502/1004", build: via("POST", "stall 1000 500", 64)},
	{name: "stalls late", weight: 2, want: "200/1004", cut: true, build: via("POST", "stall 300000 200000", 64)},
	{name: "cut early", weight: 10, want: "502/1011", build: via("POST", "cut-length 1000 500", 64)},
	{name: "cut late", weight: 5, want: "200/1011", cut: true, build: via("POST", "cut-length 300000 200000", 64)},
	{name: "chunks cut early", weight: 10, want: "502/1011", build: via("POST", "cut-chunked 500", 64)},
	{name: "chunks cut late", weight: 5, want: "200/1011", cut: true, build: via("POST", "cut-chunked 200000", 64)},
	{name: "no answer", weight: 5, want: "502/1011", build: via("POST", "vanish", 64)},
	{name: "malformed status", weight: 5, want: "502/1011", build: via("POST", "garbage", 64)},
	{name: "malformed framing", weight: 5, want: "502/1011", build: via("POST", "lengths", 64)},
	{name: untidy, weight: 5, want: "200/0", build: via("POST", "untidy", 64)},
	{name: "response too large", weight: 5, want: "502/1008", build: via("POST", "size 1048577", 64)},
	{name: "response grows too large", weight: 3, want: "200/1008", cut: true, build: via("POST", "chunked 1200000", 64)},
	{name: "request too large", weight: 5, want: "413/1012", build: via("POST", "", 300_000)},
	{name: "head too large", weight: 5, want: "431/1012", noID: true,
		build: to("GET http://127.0.0.1/", "127.0.0.1", "X-Large: "+strings.Repeat("x", 70_000)+"\r\n")},
}

// perform sends one request over a client's connection and returns what came of it, and whether the connection may
// be used again.
func (l *loadTest) perform(conn net.Conn, br *bufio.Reader, k *kind, id int) (outcome string, goesOn bool, err error) {
	request := k.build(l, id)
	_, writeErr := io.WriteString(conn, request) // a refusal may come before it is all written
	method, _, _ := strings.Cut(request, " ")
	answer, err := readAnswer(br, method)
	if answer == nil {
		return "", false, fmt.Errorf("no answer: %v, %v", err, writeErr)
	}
	if err != nil {
		if k.cut {
			return k.want, false, nil
		}
		return answer.verdict() + " cut", false, err
	}
	if k.cut {
		return answer.verdict() + " whole", false, fmt.Errorf("the response of %d bytes looks whole", len(answer.Body))
	}
	if method == "CONNECT" && answer.status() == 200 {
		return answer.verdict(), false, l.insideTunnel(conn, br, id)
	}
	if k.name == untidy {
		if err := tidied(answer); err != nil {
			return answer.verdict(), true, err
		}
	}
	if plain := strings.HasPrefix(string(answer.Body), "received "); plain {
		_, body, _ := strings.Cut(request, "\r\n\r\n")
		if err := rightBody(answer, body); err != nil {
			return answer.verdict(), true, err
		}
	}
	return answer.verdict(), !strings.EqualFold(answer.get("Connection"), "close"), nil
}

func (l *loadTest) insideTunnel(conn net.Conn, br *bufio.Reader, id int) error {
	io.WriteString(conn, head("POST /load", l.destination, id, "Content-Length: 100\r\n")+content(id, 100))
	answer, err := readAnswer(br, "POST")
	if err != nil {
		return fmt.Errorf("in the tunnel: %w", err)
	}
	return want("in the tunnel", answer.verdict(), "200/0")
}
