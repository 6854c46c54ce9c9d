#!/bin/bash
# engine-main.sh OPTION…: becomes dockerd. Runs inside the private root, see enter.sh.
set -euo pipefail

# nftables where the kernel has it, as today's distributions do; else the older tables.
if ! iptables-nft -t nat -S >/dev/null 2>&1 && iptables-legacy -t nat -S >/dev/null 2>&1; then
  update-alternatives --set iptables /usr/sbin/iptables-legacy
  update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
fi
exec dockerd "$@"
