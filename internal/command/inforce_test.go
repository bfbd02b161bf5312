package command

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

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
