#!/bin/sh
# After the files are gone. Logs and the newest bundle of roots go where the package is purged.
set -e
if [ "$1" = purge ]; then
	rm -rf /var/cache/whsentry /var/cache/private/whsentry /var/log/whsentry /var/log/private/whsentry
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
