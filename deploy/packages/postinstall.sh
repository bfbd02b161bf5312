#!/bin/sh
# After the files are there. The service's user needs no creation: it exists while the service runs (DynamicUser). A new
# installation starts nothing, for its settings are still to be looked at; an upgrade starts anew what was running.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case "$1" in
configure) [ -z "$2" ] || systemctl try-restart whsentry.service ;; # Debian; $2 is the version before this one
[2-9]*) systemctl try-restart whsentry.service ;;                  # RPM; how many of its versions there are now
esac
