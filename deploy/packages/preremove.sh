#!/bin/sh
# Before the files go. An upgrade does not stop what runs.
set -e
[ -d /run/systemd/system ] || exit 0
case "$1" in
remove | deconfigure | 0) systemctl disable --now whsentry.socket whsentry.service ;;
esac
