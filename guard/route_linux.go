package guard

import (
	"encoding/binary"
	"net/netip"
	"syscall"
)

// routedHere reports whether the route to a, which is not IPv4-mapped, is one to this host itself: of type local, in the
// words of rtnetlink(7). No packet is sent. Where the system cannot be asked it is true, for then nobody knows.
func routedHere(a netip.Addr) bool {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return true
	}
	defer syscall.Close(fd)
	if err := syscall.Sendto(fd, routeRequest(a), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return true
	}
	answer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, answer, syscall.MSG_DONTWAIT) // the answer is there once the request is sent
	if err != nil {
		return true
	}
	messages, err := syscall.ParseNetlinkMessage(answer[:n])
	if err != nil || len(messages) == 0 {
		return true
	}
	route := messages[0]
	if route.Header.Type != syscall.RTM_NEWROUTE || len(route.Data) < syscall.SizeofRtMsg {
		return false // an error: there is no route
	}
	return route.Data[7] == syscall.RTN_LOCAL // rtm_type
}

// routeRequest is the message that asks for the route to a: a header, a struct rtmsg, and a as RTA_DST.
func routeRequest(a netip.Addr) []byte {
	to, family := a.AsSlice(), byte(syscall.AF_INET)
	if a.Is6() {
		family = syscall.AF_INET6
	}
	order := binary.NativeEndian
	b := make([]byte, 0, syscall.SizeofNlMsghdr+syscall.SizeofRtMsg+syscall.SizeofRtAttr+len(to))
	b = order.AppendUint32(b, uint32(cap(b)))
	b = order.AppendUint16(b, syscall.RTM_GETROUTE)
	b = order.AppendUint16(b, syscall.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number and sender
	b = append(b, family, byte(a.BitLen()))
	b = append(b, make([]byte, syscall.SizeofRtMsg-2)...)
	b = order.AppendUint16(b, uint16(syscall.SizeofRtAttr+len(to)))
	b = order.AppendUint16(b, syscall.RTA_DST)
	return append(b, to...)
}
