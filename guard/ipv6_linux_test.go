package guard

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestForbiddenIPv6 runs this test again in a process that is forbidden AF_INET6, as systemd's RestrictAddressFamilies
// does it: it connects over IPv4, asks for no AAAA, and IPv6 is a network that is unreachable.
func TestForbiddenIPv6(t *testing.T) {
	const inside = "WHSENTRY_TEST_FORBIDDEN_IPV6"
	if os.Getenv(inside) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestForbiddenIPv6$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestForbiddenIPv6") {
			t.Errorf("without IPv6: %v\n%s", err, out)
		}
		return
	}
	forbidIPv6(t)
	to, _ := listen(t, "127.0.0.2:0")
	s := startDNS(t, zone("x.example. 60 IN A 127.0.0.2", "x.example. 60 IN AAAA 2a00::1"))
	cfg := DefaultConfig()
	cfg.DNSServers, cfg.AllowList = []netip.AddrPort{s.addr}, prefixes("127.0.0.2/32")
	g, err := New(cfg, Hooks{})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	for host, want := range map[string]string{
		"x.example": "",
		"2a00::1":   "connect to [2a00::1]:" + port(to) + ": network is unreachable",
		"::1":       "IP ::1 is blocked",
		"localhost": "IP 127.0.0.1 is blocked",
	} {
		conn, _, err := NewDialer(g).Dial(t.Context(), host, to.Port())
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			conn.Close()
		}
		if got != want {
			t.Errorf("%s: got %q; want %q", host, got, want)
		}
	}
	if n := s.count("udp AAAA"); n != 0 {
		t.Errorf("%d questions for AAAA; want none", n)
	}
}

// port returns the port of ap in decimal.
func port(ap netip.AddrPort) string {
	return ap.String()[strings.LastIndexByte(ap.String(), ':')+1:]
}

// forbidIPv6 has socket(2) fail with EAFNOSUPPORT for AF_INET6 from now on, in all threads.
func forbidIPv6(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const number, firstArg = 0, 16 // offsets in struct seccomp_data
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: firstArg},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET6, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatalf("forgo privileges: %v", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program))); errno != 0 {
		t.Fatalf("set a system call filter: %v", errno)
	}
}
