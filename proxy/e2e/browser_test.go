package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium that is told what to do over two pipes, in the DevTools protocol: JSON messages that
// end with a zero byte.
type browser struct {
	t       *testing.T
	to      io.Writer
	session string

	mu      sync.Mutex // guards the following
	next    int
	answers map[int]chan json.RawMessage
	errors  []string // that the page caused: in its script, or by what it is not allowed to do
}

// openBrowser starts a browser, with a page that has loaded nothing yet. The test is skipped where there is none,
// or none may be used.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	if os.Getenv("TEST_INSTALLED") == "" {
		t.Skip("only with TEST_INSTALLED=1, for it starts chromium")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium")
	}
	toBrowser, to := pipe(t)
	from, fromBrowser := pipe(t)
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir())
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	b := &browser{t: t, to: to, answers: make(map[int]chan json.RawMessage)}
	read := make(chan struct{})
	go func() { // ends with the browser, and is awaited below
		defer close(read)
		b.listen(from)
	}()
	t.Cleanup(func() {
		b.tell("", "Browser.close", nil)
		waited := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		cmd.Wait()
		waited.Stop()
		<-read
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// listen takes what the browser says, until it ends.
func (b *browser) listen(from io.Reader) {
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  json.RawMessage
		}
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if answer := b.answers[m.ID]; answer != nil {
			delete(b.answers, m.ID)
			if m.Error != nil {
				b.errors = append(b.errors, string(m.Error))
			}
			answer <- m.Result // which has room
		}
		isLog := m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`)
		if isLog || m.Method == "Runtime.exceptionThrown" {
			b.errors = append(b.errors, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// tell sends a command, whose answer comes on the channel.
func (b *browser) tell(session, method string, params map[string]any) <-chan json.RawMessage {
	b.mu.Lock()
	b.next++
	id, answer := b.next, make(chan json.RawMessage, 1)
	b.answers[id] = answer
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	b.to.Write(append(text, 0))
	return answer
}

// call carries out a command and stores its result.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	select {
	case answer := <-b.tell(b.session, method, params):
		if result != nil {
			if err := json.Unmarshal(answer, result); err != nil {
				b.t.Fatalf("%s: got %s: %v", method, answer, err)
			}
		}
	case <-time.After(3 * patience): // it takes its time to start
		b.t.Fatalf("%s: the browser does not answer", method)
	}
}

// evaluate returns what a JavaScript expression is in the page, written as text.
func (b *browser) evaluate(expression string) string {
	b.t.Helper()
	var answer struct{ Result struct{ Value any } }
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer)
	return fmt.Sprint(answer.Result.Value)
}

func (b *browser) await(expression, want string) {
	b.t.Helper()
	eventually(b.t, expression+" to be "+want, func() bool { return b.evaluate(expression) == want })
}

// view sets how wide the page is, in CSS pixels, and the user's colour scheme.
func (b *browser) view(width int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture writes the page into a file of the folder that SCREENSHOTS names; without it nothing.
func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), data, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// The status page in a browser: it keeps to its own policy, fits a phone, is dark where that is wanted, shows markup as
// text, keeps itself up to date without folding up what was opened, and says so when the proxy is gone.
func TestStatusPageInBrowser(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s := start(t, fromBalancer)
	client := 0
	refuse := func(method, host string) {
		t.Helper()
		client++
		s.exchange(balanced(client, method, host)).check(t, "403 Forbidden", "1000")
	}
	for i := range 12 {
		refuse(strings.Repeat("LONG", 200), fmt.Sprintf("10.1.3.%d", i))
	}
	s.exchange("PROXY UNKNOWN\r\nGET http://<img/src=x/onerror=window.pwned=1><script>window.pwned=1</script> HTTP/1.1\r\nHost: x\r\n\r\n").
		check(t, "400 Bad Request", "1002")
	s.statusPageAfter(13) // or one of these might come last
	refuse("GET", "10.1.2.3")
	o := answering(t, okResponse)
	s.exchange("PROXY UNKNOWN\r\n"+post(o, "/", "body")).check(t, "200 OK", "")
	s.logLines(14)

	b.call("Page.navigate", map[string]any{"url": s.metrics + "/"}, nil)
	b.await("document.readyState + document.querySelectorAll('.refusals li').length", "complete14")
	for _, tt := range []struct {
		width  int
		scheme string
		ground string
	}{{1200, "light", "rgb(255, 255, 255)"}, {1200, "dark", "rgb(20, 23, 27)"}, {390, "light", "rgb(255, 255, 255)"}, {320, "dark", "rgb(20, 23, 27)"}} {
		b.view(tt.width, tt.scheme)
		b.await("innerWidth", fmt.Sprint(tt.width))
		b.await("getComputedStyle(document.body).backgroundColor", tt.ground)
		if b.evaluate("document.documentElement.scrollWidth <= innerWidth") != "true" {
			t.Errorf("the page is wider than its window of %d pixels", tt.width)
		}
		b.picture(fmt.Sprintf("status-%d-%s", tt.width, tt.scheme))
	}
	for expression, want := range map[string]string{
		"window.pwned": "<nil>", "document.images.length": "0", "document.scripts.length": "1",
		"document.querySelector('.refusals code').textContent":                                         "GET http://10.1.2.3",
		"document.querySelectorAll('.charts svg').length":                                              "4",
		"document.getElementById('lost').hidden":                                                       "true",
		"performance.getEntriesByType('resource').filter(e => new URL(e.name).pathname != '/').length": "0",
	} {
		if got := b.evaluate(expression); got != want {
			t.Errorf("%s: got %s; want %s", expression, got, want)
		}
	}

	b.evaluate("document.getElementById('earlier').open = true")
	refuse("GET", "10.1.2.4")
	b.await("document.querySelector('.refusals code').textContent", "GET http://10.1.2.4")
	if got := b.evaluate("document.getElementById('earlier').open"); got != "true" {
		t.Errorf("what was folded open: got %s after an update; want true", got)
	}
	b.mu.Lock()
	for _, e := range b.errors {
		t.Errorf("the browser complains: %s", e)
	}
	b.mu.Unlock()
	s.stop(patience)
	b.await("document.getElementById('lost').hidden", "false")
}
