# Two network namespaces joined by a long wire (`accept wire`), for scripts that source lib.sh and then this: $near, the
# proxy's side, whose name server and default route is $far, where the program in internal/acceptance plays the Internet
# (`accept far`). The addresses are public ones, for only those may be reached, and are used inside the namespaces only.
# Needs root. The real network is not touched.

near=whs-near-$$ far=whs-far-$$
wire_pids=()
remove_wire() {
	for pid in "${wire_pids[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	ip netns delete "$near" 2>/dev/null || true
	ip netns delete "$far" 2>/dev/null || true
	rm -rf "/etc/netns/$near"
	rmdir /etc/netns 2>/dev/null || true
}

# side NAMESPACE DEVICE IPV4 IPV6 sets one end of the wire up.
side() {
	ip -n "$1" link set lo up
	ip -n "$1" addr add "$3/24" dev "$2"
	ip -n "$1" addr add "$4/64" dev "$2" nodad
	ip -n "$1" link set "$2" up
}

# lay_wire makes all of it and starts the far side, which tells its counts over the socket $scratch/control.
lay_wire() {
	[ "$(id -u)" = 0 ] || fail "$0: root is needed for network namespaces"
	on_exit+=(remove_wire)
	{ ip netns add "$near" && ip netns add "$far"; } || fail "$0: this machine does not let us make network namespaces (ip netns add)"
	"$ACCEPT" wire -near "$near" -far "$far" -device whs -limit 15m &
	wire_pids+=($!)
	if ! await ip -n "$far" link show whs; then
		echo "$0: there are no TUN devices here: a veth pair joins the namespaces, over which no connection is waited for"
		ip link add whs netns "$near" type veth peer name whs netns "$far" || fail "$0: this machine does not let us make a veth pair"
	fi
	side "$near" whs 8.8.9.2 2a00:1450:9::2
	side "$far" whs 8.8.9.1 2a00:1450:9::1
	ip -n "$near" route add default via 8.8.9.1
	ip -n "$near" route add default via 2a00:1450:9::1
	ip -n "$far" route add local default dev lo table main # every address is one of the far side's own
	ip -n "$far" -6 route add local default dev lo table main

	mkdir -p "/etc/netns/$near" # what ip netns exec shows as /etc to the programs inside
	printf 'nameserver 8.8.9.1\nsearch test\noptions ndots:5 timeout:5 attempts:2\n' >"/etc/netns/$near/resolv.conf"
	printf '%s\n' '127.0.0.1 localhost' '::1 localhost' '8.8.9.1 public.hosts.example example.com' '10.0.0.1 private.hosts.example' \
		>"/etc/netns/$near/hosts"

	ip netns exec "$far" "$ACCEPT" far -control "$scratch/control" -limit 15m &
	wire_pids+=($!)
	await test -S "$scratch/control" || fail "$0: the far side does not start"
}

# await COMMAND... waits until the command succeeds, for ten seconds at most.
await() {
	for _ in $(seq 100); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	return 1
}
