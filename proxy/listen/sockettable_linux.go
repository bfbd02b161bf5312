package listen

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"strings"
)

// socketTableLimit bounds what is read of the system's table of sockets, in bytes: some 400,000 of them. Those that
// listen come first, the others in no order.
const socketTableLimit = 64 << 20

// Columns of /proc/net/tcp and tcp6 (Documentation/networking/proc_net_tcp.rst in Linux), and states, those of
// include/net/tcp_states.h.
const (
	tableAddress, tableState, tableInode = 1, 3, 9

	stateHalfMade  = "03" // SYN_RECV: the client's ACK has not come yet
	stateListening = "0A"
)

// socketTable opens the system's table of the sockets of l's address family.
func (l *Listener) socketTable() (*os.File, error) {
	if l.Addr().(*net.TCPAddr).IP.To4() != nil {
		return os.Open("/proc/self/net/tcp")
	}
	return os.Open("/proc/self/net/tcp6")
}

// socketRows are the rows of a table that are in a state, cut into columns. Behind those that listen nothing is read.
func socketRows(table io.Reader, state string) iter.Seq[[]string] {
	mark := []byte(" " + state + " ")
	return func(yield func([]string) bool) {
		found := false
		for lines := bufio.NewScanner(io.LimitReader(table, socketTableLimit)); lines.Scan(); {
			if !bytes.Contains(lines.Bytes(), mark) {
				if found && state == stateListening {
					return
				}
				continue // cutting costs more than all the rest, and there may be very many
			}
			found = true
			columns := strings.Fields(lines.Text())
			if len(columns) > tableInode && columns[tableState] == state && !yield(columns) {
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
	for row := range socketRows(table, stateListening) {
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
	for row := range socketRows(table, stateHalfMade) {
		if strings.HasSuffix(row[tableAddress], suffix) {
			return true
		}
	}
	return false
}
