# What curl sees; see seen.py.
version=$(curl --version | sed -n '1s/^curl \([^ ]*\).*/\1/p')
head=$(mktemp)
trap 'rm -f "$head"' EXIT

# field prints a field of the last head that came.
field() { tr -d '\r' <"$head" | awk -v name="$1:" 'tolower($1) == name { value = $2 } END { print value }'; }

while IFS=$'\t' read -r way case proxy url; do
	options=(--proxy-cacert "$CA" --proxy-cert "$CLIENT_CERT" --proxy-key "$CLIENT_KEY")
	case $way in
	X-WhSentry-TLS) options+=(-H 'X-WhSentry-TLS: true') ;;
	'CONNECT, http') options+=(--proxytunnel) ;;
	esac
	text=$(curl -q -sS -x "$proxy" --noproxy '' -D "$head" -o /dev/null -w '%{http_code}' --data-binary '{"event": "paid"}' \
		"${options[@]}" "${url/CLIENT/curl}" 2>&1)
	code=$?
	seen=${text: -3} # the status, or 000
	[ "$seen" != 000 ] || seen=$(awk '/^HTTP/ { status = $2 } END { print status }' "$head")
	[ -z "$(field x-whsentry-reasoncode)" ] || seen+=" $(field x-whsentry-reasoncode) $(field x-whsentry-delivered) $(field x-whsentry-retry)"
	text=${text%???}
	[ $code = 0 ] || seen="${text%$'\n'} [$seen]"
	printf '%s\t%s\t%s\t%s\t%s\n' curl "$version" "$way" "$case" "$seen"
done <"$1"
