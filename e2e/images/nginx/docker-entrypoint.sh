#!/bin/sh
# Runs a command, nginx by default. nginx cannot start with an address of a kind that the kernel lacks, so it listens on
# IPv6 only where there is any, and where its configuration can be written.
set -eu

listen=/etc/nginx/listen.d
if [ -e /proc/net/if_inet6 ] && [ -w "$listen" ]; then
  echo 'listen [::]:80;' > "$listen/ipv6.conf"
fi
exec "$@"
