#!/bin/bash
# mirrors.sh: prints the Debian archives that this machine uses, as lines "debian URL" and "debian-security URL".
#
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR come first, then what apt's own sources name. The security archive is else
# taken to lie next to the other one: …/debian-security and …/debian. An archive that is not known has no line.
# APT_ETC is apt's folder, in place of /etc/apt.
set -euo pipefail

etc=${APT_ETC:-/etc/apt}

# sources: apt's sources of binary packages, as lines "URL SUITE COMPONENT…": one-line entries, then deb822 stanzas.
sources() {
  local file
  cat "$etc"/sources.list "$etc"/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]*)?//p' || true
  for file in "$etc"/sources.list.d/*.sources; do
    [[ -e $file ]] || continue
    awk 'function flush(  i, j, n, m, u, s) {
           n = split(uris, u); m = split(suites, s)
           if (types ~ /(^| )deb( |$)/ && tolower(enabled) != "no")
             for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j], components
           types = uris = suites = components = enabled = key = ""
         }
         /^#/ { next }
         /^[[:space:]]*$/ { flush(); next }
         { if ($0 !~ /^[[:space:]]/) { key = tolower($0); sub(/:.*/, "", key); sub(/^[^:]*:/, "") }
           sub(/^[[:space:]]+/, "")
           if (key == "types") types = types " " $0
           else if (key == "uris") uris = uris " " $0
           else if (key == "suites") suites = suites " " $0
           else if (key == "components") components = components " " $0
           else if (key == "enabled") enabled = $0 }
         END { flush() }' "$file"
  done
}

# choose: from sources' lines, the best one for each archive.
choose() {
  # Third parties name their suites as Debian does; an archive that ends in /debian is surely Debian itself.
  awk -v release='((old)*stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)' '
    { sub(/\/+$/, "", $1) }
    !/ (updates\/)?main( |$)/ || $1 !~ /^(https?|mirror\+file|file):/ { next }
    $2 ~ "^" release "$" && $1 !~ /security/ {
      if (!any) any = $1
      if (!best && $1 ~ /\/debian(\/[0-9TZ]+)?$|^mirror/) best = $1
    }
    $2 ~ "^" release "(-security|/updates)$" && !security { security = $1 }
    END {
      if (any) print "debian", best ? best : any
      if (security) print "debian-security", security
    }'
}

# check VARIABLE URL: a name without a scheme would only fail much later, and obscurely.
check() {
  if [[ ! $2 =~ ^(https?|file)://?[^[:space:]]+$ ]]; then
    printf '%s is "%s": it must be a URL such as http://…/%s\n' "$1" "$2" \
      "$([[ $1 == DEBIAN_MIRROR ]] && echo debian || echo debian-security)" >&2
    exit 2
  fi
}

main() {
  local archive url debian='' security=''
  while read -r archive url; do
    # The first mirror of a list.
    [[ $url != mirror+file:* ]] || url=$(awk '/^[^#[:space:]]/ { print $1; exit }' "/${url#mirror+file:}") || url=
    case $archive in
      debian) debian=$url ;;
      debian-security) security=$url ;;
    esac
  done < <(sources | choose)

  if [[ -n ${DEBIAN_MIRROR:-} ]]; then
    check DEBIAN_MIRROR "$DEBIAN_MIRROR"
    debian=${DEBIAN_MIRROR%/}
  fi
  # Next to the mirror that the user has chosen, rather than wherever the machine's own sources lead.
  if [[ (-n ${DEBIAN_MIRROR:-} || -z $security) && $debian =~ ^([a-z]+:/+[^/].*)/debian(/[^/]*)?$ ]]; then
    security=${BASH_REMATCH[1]}/debian-security${BASH_REMATCH[2]}
  fi
  if [[ -n ${DEBIAN_SECURITY_MIRROR:-} ]]; then
    check DEBIAN_SECURITY_MIRROR "$DEBIAN_SECURITY_MIRROR"
    security=$DEBIAN_SECURITY_MIRROR
  fi
  [[ -z $debian ]] || printf 'debian %s\n' "${debian%/}"
  [[ -z $security ]] || printf 'debian-security %s\n' "${security%/}"
}

main
