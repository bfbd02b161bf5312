package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"whsentry/proxy"
)

// listInForce returns what the status page shows of the settings in a file.
func listInForce(t *testing.T, yaml string) map[string]proxy.Setting {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultConfigFile, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := sources{getenv: environment(map[string]string{"WHSENTRY_READ_TIMEOUT": "7s"}), flags: map[string][]string{"--connect-timeout": {"3s"}}}.load()
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]proxy.Setting)
	for _, setting := range s.inForce(s.proxy) {
		if _, twice := list[setting.Key]; twice {
			t.Errorf("%s is there twice", setting.Key)
		}
		list[setting.Key] = setting
	}
	return list
}

func TestInForce(t *testing.T) {
	list := listInForce(t, `
listener: {type: https, address: ":1443", certFile: a.pem, keyFile: a.key}
caBundle: {url: "https://bob:hunter2@example.com/roots.pem?token=hunter3"}
clientCerts:
  acme: {certFile: acme.pem, keyFile: acme.key}
userAgent: ""
`)
	for key, want := range map[string]proxy.Setting{
		"listener.type":     {Value: "https", Origin: "config.yaml:2"},
		"listener.address":  {Value: ":1443", Origin: "config.yaml:2"},
		"listener.keyFile":  {Value: "a.key", Origin: "config.yaml:2"},
		"caBundle.url":      {Value: "https://xxxxx@example.com/roots.pem?xxxxx", Origin: "config.yaml:3"},
		"clientCerts.acme":  {Value: "certFile acme.pem, keyFile acme.key", Origin: "config.yaml:4"},
		"userAgent":         {Value: "none", Origin: "config.yaml:6"},
		"readTimeout":       {Value: "7s", Origin: "WHSENTRY_READ_TIMEOUT"},
		"connectTimeout":    {Value: "3s", Origin: "--connect-timeout"},
		"clientIdleTimeout": {Value: "2m"},
		"maxBufferedBytes":  {Value: "256MiB"},
	} {
		want.Key = key
		if list[key] != want {
			t.Errorf("got %+v; want %+v", list[key], want)
		}
	}
	for i := range table {
		if _, shown := list[table[i].key]; shown == table[i].structure {
			t.Errorf("%s: got shown: %v; want the other", table[i].key, shown)
		}
	}
}

func TestInForceListeners(t *testing.T) {
	list := listInForce(t, `
listeners:
  - {address: "127.0.0.1:1"}
  - {type: https, address: ":1443", certFile: a.pem, keyFile: a.key, reusePort: true}
`)
	for key, want := range map[string]string{
		"listeners[0]": "address 127.0.0.1:1",
		"listeners[1]": "type https, address :1443, certFile a.pem, keyFile a.key, reusePort true",
	} {
		if got := list[key]; got.Value != want || got.Origin != "config.yaml:2" {
			t.Errorf("%s: got %+v; want %s", key, got, want)
		}
	}
	for key := range list {
		if strings.HasPrefix(key, "listener.") {
			t.Errorf("got %s beside listeners", key)
		}
	}
}

// The status page of a running proxy shows the settings in force, and no secret of them.
func TestStatusPageLeavesSecretsOut(t *testing.T) {
	t.Chdir(t.TempDir())
	d := startDaemon(t, quiet("--ca-bundle-url", "http://bob:hunter2@127.0.0.1:9/a?token=hunter3")...) // nothing listens there
	line, _ := d.log.wait(t, 0, "started")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + line["metrics"].(string) + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"http://xxxxx@127.0.0.1:9/a?xxxxx</code> <small>--ca-bundle-url</small>", `<th scope="row">connectTimeout</th><td><code>10s</code>`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(string(page), "hunter") {
		t.Errorf("the page shows a secret")
	}
	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
}
