package command

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"whsentry/internal/settings"
	"whsentry/proxy/listen"
)

// listenForNotes plays a service manager. It returns where it listens, and what waits for a message that is all of
// pattern.
func listenForNotes(t *testing.T, name string) (hear func(pattern string)) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return func(pattern string) {
		t.Helper()
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("got %v; want a message %s", err, pattern)
		}
		if got := string(b[:n]); !regexp.MustCompile("^(?:" + pattern + ")$").MatchString(got) {
			t.Fatalf("got %q; want %s", got, pattern)
		}
	}
}

// TestNotify tells a service manager of the start, of reloads, whatever comes of them, and of the stop.
func TestNotify(t *testing.T) {
	t.Chdir(t.TempDir())
	socket := filepath.Join(t.TempDir(), "notify")
	hear := listenForNotes(t, socket)
	d := startDaemonIn(t, func(a *app) { a.getenv = environment(map[string]string{notifyVariable: socket}) },
		quiet("--shutdown-timeout", "7s")...)
	const reloading = `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*`
	hear(`READY=1\nSTATUS=serving`)
	d.signals <- syscall.SIGHUP
	hear(reloading)
	hear(`READY=1\nSTATUS=serving`)
	if err := os.WriteFile("config.yaml", []byte("nonsense: \"a\\nb\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.signals <- syscall.SIGHUP
	hear(reloading)
	hear(`READY=1\nSTATUS=serving; not reloaded: config.yaml:1: nonsense: [^\n]*`)
	d.signals <- syscall.SIGTERM
	hear(`STOPPING=1\nEXTEND_TIMEOUT_USEC=17000000\nSTATUS=finishing what is running`)
	if r := <-d.done; r.code != exitOK || r.stderr != "" {
		t.Errorf("got %+v; want exit code 0 and nothing printed", r)
	}
}

// TestNotifyAbstract: systemd's own socket may be in the abstract namespace, which is Linux's.
func TestNotifyAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("abstract sockets are Linux's")
	}
	name := "@whsentry-test-" + filepath.Base(t.TempDir()) + "-" + filepath.Base(filepath.Dir(t.TempDir()))
	hear := listenForNotes(t, name)
	if err := manager(name).ready("a\nb"); err != nil {
		t.Fatal(err)
	}
	hear(`READY=1\nSTATUS=a\\nb`)
	if err := manager(name).ready(strings.Repeat("é", 1000)); err != nil {
		t.Fatal(err)
	}
	hear(`READY=1\nSTATUS=é{250}\.\.\.`)
}

func TestNotifyNobody(t *testing.T) {
	if err := errors.Join(manager("").ready("x"), manager("").reloading(), manager("").stopping(time.Second)); err != nil {
		t.Errorf("got %v; want nothing, for nobody wants to know", err)
	}
}

// TestNotifyErrors: what cannot be told is logged, and stops nothing.
func TestNotifyErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct{ name, socket, want string }{
		{"no path", "notify", `NOTIFY_SOCKET: "notify": not the address of a socket; want a path, or @ and a name`},
		{"another protocol", "vsock:2:1234", `not the address of a socket`},
		{"missing", missing, "NOTIFY_SOCKET: " + settings.Quote(missing) + ": send READY=1: "},
		{"too long", "/" + strings.Repeat("x", 200), "send READY=1: "},
	} {
		if err := manager(tt.socket).ready("x"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v; want %s", tt.name, err, tt.want)
		}
	}
	t.Chdir(t.TempDir())
	d := startDaemonIn(t, func(a *app) { a.getenv = environment(map[string]string{notifyVariable: missing}) }, quiet()...)
	d.log.wait(t, 0, "the service manager does not know how the proxy is doing")
	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
}

// TestPassedSockets: what is wrong with sockets that are passed is one message, also before there are settings.
func TestPassedSockets(t *testing.T) {
	t.Chdir(t.TempDir())
	broken := errors.New("socket activation: descriptor 3: not a socket; want a TCP socket that listens")
	d := startDaemonIn(t, func(a *app) { a.sockets = func() (*listen.Sockets, error) { return nil, broken } }, quiet()...)
	if r := <-d.done; r.code != exitFailed || r.stderr != "whsentry: error: "+broken.Error()+"\n" {
		t.Errorf("got %+v; want the error and exit code 1", r)
	}
	d = startDaemonIn(t, func(a *app) { a.sockets = func() (*listen.Sockets, error) { return nil, nil } }, quiet()...)
	d.log.wait(t, 0, "started")
	if r := d.stop(t, syscall.SIGTERM); r.code != exitOK {
		t.Errorf("got %+v; want exit code 0", r)
	}
}
