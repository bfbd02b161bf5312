// What Go's net/http sees; see seen.py.
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
)

func main() {
	cases, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer cases.Close()
	for lines := bufio.NewScanner(cases); lines.Scan(); {
		f := strings.Split(lines.Text(), "\t")
		if f[0] == "CONNECT, http" {
			continue
		}
		seen, err := send(f[0] == "X-WhSentry-TLS", f[2], strings.Replace(f[3], "CLIENT", "go", 1))
		if err != nil {
			seen = fmt.Sprintf("%T: %v", err, err)
		}
		fmt.Println(strings.Join([]string{"Go", strings.TrimPrefix(runtime.Version(), "go"), f[0], f[1], seen}, "\t"))
	}
}

func send(tlsByProxy bool, proxy, to string) (string, error) {
	through, err := url.Parse(proxy)
	if err != nil {
		return "", err
	}
	shown, err := tls.LoadX509KeyPair(os.Getenv("CLIENT_CERT"), os.Getenv("CLIENT_KEY"))
	if err != nil {
		return "", err
	}
	transport := &http.Transport{
		Proxy:           http.ProxyURL(through),
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{shown}},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest("POST", to, strings.NewReader(`{"event": "paid"}`))
	if err != nil {
		return "", err
	}
	if tlsByProxy {
		req.Header.Set("X-WhSentry-TLS", "true")
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil {
		return "", err
	}
	seen := fmt.Sprint(resp.StatusCode)
	if resp.Header.Get("X-WhSentry-ReasonCode") != "" {
		for _, name := range []string{"X-WhSentry-ReasonCode", "X-WhSentry-Delivered", "X-WhSentry-Retry"} {
			seen += " " + resp.Header.Get(name)
		}
	}
	return seen, nil
}
