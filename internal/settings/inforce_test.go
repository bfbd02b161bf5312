package settings

import (
	"os"
	"strings"
	"testing"
	"whsentry/proxy/admin"
)

// listInForce returns what the status page shows of the settings in a file.
func listInForce(t *testing.T, yaml string) map[string]admin.Setting {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultConfigFile, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Sources{Getenv: environment(map[string]string{"WHSENTRY_READ_TIMEOUT": "7s"}), Flags: map[string][]string{"--connect-timeout": {"3s"}}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]admin.Setting)
	for _, shown := range s.InForce(s.Proxy) {
		if _, twice := list[shown.Key]; twice {
			t.Errorf("%s is there twice", shown.Key)
		}
		list[shown.Key] = shown
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
	for key, want := range map[string]admin.Setting{
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
		if _, shown := list[table[i].Key]; shown == table[i].Structure {
			t.Errorf("%s: got shown: %v; want the other", table[i].Key, shown)
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
