//go:build linux

package main

import (
	"math/rand/v2"
	"strings"
)

// webhooks are the payloads, methods and targets that every client sends. Names with "chunked" upload in chunks.
var webhooks = func() []webhook {
	binary := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{7})
	rng.Read(binary)
	json := []byte(`{"event":"invoice.paid","text":"` + strings.Repeat("0123456789abcdef", 61) + `"}`)
	unicode := []byte(`{"text":"Grüße, 世界 🌍 ` + "\u2028\u00a0" + ` e\u0301 ` + "e\u0301" + `"}` + "\n")

	hooks := []webhook{
		{Name: "empty", Method: "POST", Target: "/hook", Body: []byte{}},
		{Name: "json-1k", Method: "POST", Target: "/hook", Body: json},
		{Name: "unicode", Method: "POST", Target: "/hook?caf%C3%A9=%E4%B8%96", Body: unicode},
		{Name: "binary-1m", Method: "POST", Target: "/hook", Body: binary},
		{Name: "chunked-1k", Method: "POST", Target: "/hook", Body: json, Chunked: true},
		{Name: "chunked-1m", Method: "POST", Target: "/hook", Body: binary, Chunked: true},
		{Name: "expect-1k", Method: "POST", Target: "/hook", Body: json, Expect: true},
		{Name: "over-1m", Method: "POST", Target: "/hook", Body: append(binary[:1<<20:1<<20], "one more"...)},
		{Name: "put", Method: "PUT", Target: "/hook", Body: json},
		{Name: "patch", Method: "PATCH", Target: "/hook", Body: json},
		{Name: "delete", Method: "DELETE", Target: "/hook/7"},
		{Name: "get", Method: "GET", Target: "/hook/7"},
	}
	for _, t := range [][2]string{
		{"path-encoded-slash", "/a%2Fb/%2e%2E/c%20d/%7e"},
		{"path-dot-segments", "/a/../b/./c/.."},
		{"path-double-slash", "//double//slash//"},
		{"path-semicolon", "/semi;colon=1;x/y?z=1;w=2&v"},
		{"path-reserved", "/!$&'()*+,;=:@-._~/"},
		{"query-empty", "/hook?"},
		{"query-odd", "/hook?a=b%20c+d&a=&=x&&%E2%82%AC=[1]&q=?/..//"},
		{"query-without-a-path", "/?x=http://10.0.0.1/&y=%2F%00"},
	} {
		hooks = append(hooks, webhook{Name: t[0], Method: "POST", Target: t[1], Body: json})
	}
	for i := range hooks {
		h := &hooks[i]
		letters := []string{"X-Hub-Signature-256", "x-hub-signature-256", "X-HUB-Signature-256", "x-Hub-sIGNATURE-256"}
		h.Fields = append(h.Fields, field{"Content-Type", "application/json"}, field{"X-Test-Order-2", "second"},
			field{"x-test-order-1", "first,  with two spaces"}, field{letters[i%len(letters)], signature(h.Body)})
	}
	return hooks
}()
