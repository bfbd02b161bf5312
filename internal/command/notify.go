package command

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whsentry/internal/settings"
)

// notifyVariable names the socket of a service manager that wants to know how its service is doing, sd_notify(3).
const notifyVariable = "NOTIFY_SOCKET"

// notifyTimeout is how long a service manager may take over a message.
const notifyTimeout = time.Second

// maxStatus bounds the text that a service manager shows, in bytes.
const maxStatus = 500

// manager is the service manager that has started the proxy; "" is none.
type manager string

// ready says that the proxy serves: after the start, and after every reload, also one that changed nothing.
func (m manager) ready(status string) error { return m.tell("READY=1", "STATUS="+statusLine(status)) }

// reloading says that settings are being read again. The manager waits for ready, and tells the ready of this reload
// from that of the one before by the clock.
func (m manager) reloading() error {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	return m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", at.Nano()/int64(time.Microsecond)))
}

// stopping says that the proxy stops, which may take that long.
func (m manager) stopping(within time.Duration) error {
	return m.tell("STOPPING=1", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()), "STATUS=finishing what is running")
}

// tell sends one message.
func (m manager) tell(lines ...string) error {
	if m == "" {
		return nil
	}
	if m[0] != '/' && m[0] != '@' {
		return fmt.Errorf("%s: %s: not the address of a socket; want a path, or @ and a name", notifyVariable, settings.Quote(string(m)))
	}
	err := m.send(strings.Join(lines, "\n"))
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if err != nil {
		return fmt.Errorf("%s: %s: send %s: %w", notifyVariable, settings.Quote(string(m)), lines[0], err)
	}
	return nil
}

func (m manager) send(message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: string(m), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(notifyTimeout))
	_, err = conn.Write([]byte(message))
	return err
}

// statusLine makes one line of a text, which ends the message's field otherwise.
func statusLine(text string) string {
	text = settings.Printable(text)
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "..."
	}
	return text
}
