package listen

import (
	"fmt"
	"strings"
	"testing"
)

const tableHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// tableRow is a row of the system's table of sockets.
func tableRow(address, state, inode string) string {
	return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %s 2 0000000031ec5438 100 0 0 10 0\n",
		address, state, inode)
}

func TestCountListening(t *testing.T) {
	const head, here, there = tableHead, "0100007F:AA47", "0100007F:AA48"
	row := tableRow
	for _, tt := range []struct {
		name, table string
		want        int
	}{
		{"empty", "", 0},
		{"no socket", head, 0},
		{"alone", head + row(here, "0A", "7"), 1},
		{"not there", head + row(here, "0A", "8"), 0},
		{"two", head + row(here, "0A", "8") + row(here, "0A", "7"), 2},
		{"another port", head + row(there, "0A", "8") + row(here, "0A", "7"), 1},
		{"a connection", head + row(here, "0A", "7") + row(here, "01", "8"), 1},
		{"behind those that listen", head + row(here, "0A", "7") + row(here, "01", "8") + row(here, "0A", "9"), 1},
		{"itself no listener", head + row(here, "01", "7") + row(here, "0A", "8"), 0},
		{"short line", head + "   0: " + here + " 00000000:0000 0A\n" + row(here, "0A", "7"), 1},
		{"part of an inode", head + row(here, "0A", "77") + row(there, "0A", "7"), 1},
	} {
		if got := countListening(strings.NewReader(tt.table), "7"); got != tt.want {
			t.Errorf("%s: got %d; want %d", tt.name, got, tt.want)
		}
	}
}

func TestHasHalfMade(t *testing.T) {
	const here, there, here6 = "0100007F:2382", "0100007F:2383", "0000000000000000FFFF00000100007F:2382"
	for _, tt := range []struct {
		name, table string
		want        bool
	}{
		{"empty", "", false},
		{"a listener and a connection", tableHead + tableRow(here, "0A", "7") + tableRow(here, "01", "8"), false},
		{"another port", tableHead + tableRow(there, "03", "0"), false},
		{"a port that ends alike", tableHead + tableRow("0100007F:12382", "03", "0"), false},
		{"half made", tableHead + tableRow(here, "0A", "7") + tableRow(here, "03", "0"), true},
		{"half made, IPv6", tableHead + tableRow(here6, "03", "0"), true},
		{"short line", tableHead + "   0: " + here + " 00000000:0000 03\n", false},
	} {
		if got := hasHalfMade(strings.NewReader(tt.table), 0x2382); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}
