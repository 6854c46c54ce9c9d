#!/bin/bash
# dirhash.sh DIR PREFIX: prints the hash of a module's files as go.sum has it, h1:…; PREFIX is
# MODULE@VERSION.
#
# As golang.org/x/mod/sumdb/dirhash defines it: the SHA-256 of what sha256sum prints of the files,
# sorted by name. A module has nothing but files and directories: anything else would be no part of
# the hash.
set -euo pipefail

cd "$1"
odd=$(find . ! -type f ! -type d -print -quit)
if [[ -n $odd ]]; then
  echo "$odd is neither a file nor a directory" >&2
  exit 1
fi
sum=$(find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum -- | sed "s|^[0-9a-f]*  |&$2/|" | sha256sum)
printf 'h1:%s\n' "$(printf '%b' "$(sed 's/ .*//; s/../\\x&/g' <<<"$sum")" | base64)"
