package proxy

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
)

// socketTableLimit bounds what is read of the system's table of sockets, in bytes; those that listen come first.
const socketTableLimit = 4 * miB

// Columns of /proc/net/tcp and tcp6 (proc_net_tcp.rst in Linux), and states, which are those of include/net/tcp_states.h.
const (
	tableAddress, tableState, tableInode = 1, 3, 9

	stateHalfMade  = "03" // SYN_RECV: the client's ACK has not come yet
	stateListening = "0A"
)

// socketTable passes the system's table of the sockets of l's address family to read, unless there is none.
func (l *listener) socketTable(read func(io.Reader)) {
	name := "/proc/self/net/tcp6"
	if l.Addr().(*net.TCPAddr).IP.To4() != nil {
		name = "/proc/self/net/tcp"
	}
	if f, err := os.Open(name); err == nil {
		defer f.Close()
		read(io.LimitReader(f, socketTableLimit))
	}
}

// socketRows are the rows of a table, cut into columns.
func socketRows(table io.Reader) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for lines := bufio.NewScanner(table); lines.Scan(); {
			if columns := strings.Fields(lines.Text()); len(columns) > tableInode && !yield(columns) {
				return
			}
		}
	}
}

// countListening counts the sockets of a table that listen on the same address as that with the inode; 0: that is not
// there.
func countListening(table io.Reader, inode string) int {
	own := ""
	sharing := make(map[string]int)
	for row := range socketRows(table) {
		if row[tableState] != stateListening {
			continue
		}
		sharing[row[tableAddress]]++
		if row[tableInode] == inode {
			own = row[tableAddress]
		}
	}
	return sharing[own]
}

// hasHalfMade reports whether a table has a connection to that port, of whichever address, that is half made.
func hasHalfMade(table io.Reader, port uint16) bool {
	suffix := fmt.Sprintf(":%04X", port)
	for row := range socketRows(table) {
		if row[tableState] == stateHalfMade && strings.HasSuffix(row[tableAddress], suffix) {
			return true
		}
	}
	return false
}
