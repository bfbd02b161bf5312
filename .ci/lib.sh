# What the scripts in this folder share; sourced, not run. It changes to the top of the checkout, makes $scratch, a
# directory that is removed at the end, and builds what the scripts need unless it was built before:
#   WHSENTRY  the binary to try        ACCEPT  the program in internal/acceptance, which tries it
# A script that makes more than files adds a function to on_exit.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
on_exit=()
clean_up() {
	local f
	for f in "${on_exit[@]}"; do "$f" || true; done
	rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# build makes whatever is not there yet.
build() {
	if [ -z "${WHSENTRY:-}" ]; then
		WHSENTRY=$scratch/whsentry
		go build -o "$WHSENTRY" .
	fi
	if [ -z "${ACCEPT:-}" ]; then
		ACCEPT=$scratch/accept
		go build -o "$ACCEPT" ./internal/acceptance
	fi
	WHSENTRY=$(realpath "$WHSENTRY")
	ACCEPT=$(realpath "$ACCEPT")
}

# fail says why and ends the script.
fail() {
	echo "FAIL $*"
	exit 1
}
