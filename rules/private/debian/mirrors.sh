#!/bin/bash
# mirrors.sh: prints the Debian archives that this machine uses, as lines "debian URL" and
# "debian-security URL".
#
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR come first, then what apt's own sources name, where it is
# Debian's. The security archive is else taken to lie next to the other one: …/debian-security and
# …/debian. An archive that is not known has no line. APT_ETC and APT_LISTS are apt's directories,
# in place of /etc/apt and /var/lib/apt/lists.
set -euo pipefail

etc=${APT_ETC:-/etc/apt}
lists=${APT_LISTS:-/var/lib/apt/lists}

# sources: apt's sources of binary packages, as lines "URL SUITE KEY COMPONENT…": one-line entries,
# then deb822 stanzas. KEY is the file of keys that the source's signature must be of, "-" where apt
# takes any that it trusts.
sources() {
  local file
  cat "$etc"/sources.list "$etc"/sources.list.d/*.list 2>/dev/null |
    awk '$1 == "deb" || $1 ~ /^deb\[/ {
           key = "-"
           if (match($0, /\[[^]]*\]/)) {
             options = substr($0, RSTART, RLENGTH); $0 = "deb " substr($0, RSTART + RLENGTH)
             if (match(options, /signed-by=[^] ]*/)) key = substr(options, RSTART + 10, RLENGTH - 10)
           }
           rest = ""
           for (i = 4; i <= NF; i++) rest = rest " " $i
           print $2, $3, key rest
         }' || true
  for file in "$etc"/sources.list.d/*.sources; do
    [[ -e $file ]] || continue
    awk 'function flush(  i, j, n, m, u, s) {
           n = split(uris, u); m = split(suites, s)
           if (types ~ /(^| )deb( |$)/ && tolower(enabled) != "no")
             for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print u[i], s[j], signed ? signed : "-", components
           types = uris = suites = components = enabled = signed = key = ""
         }
         /^#/ { next }
         /^[[:space:]]*$/ { flush(); next }
         { if ($0 !~ /^[[:space:]]/) { key = tolower($0); sub(/:.*/, "", key); sub(/^[^:]*:/, "") }
           sub(/^[[:space:]]+/, "")
           if (key == "types") types = types " " $0
           else if (key == "uris") uris = uris " " $0
           else if (key == "suites") suites = suites " " $0
           else if (key == "components") components = components " " $0
           else if (key == "signed-by" && !signed && $1 != ".") signed = $1
           else if (key == "enabled") enabled = $0 }
         END { flush() }' "$file"
  done
}

# candidates: of sources' lines those that may be Debian, as lines "ARCHIVE URL SUITE KEY". Third
# parties name their suites as Debian does.
candidates() {
  awk -v release='((old)*stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)' '
    { sub(/\/+$/, "", $1) }
    !/ (updates\/)?main( |$)/ || $1 !~ /^(https?|mirror\+file|file):/ { next }
    $2 ~ "^" release "$" && $1 !~ /security/ { print "debian", $1, $2, $3 }
    $2 ~ "^" release "(-security|/updates)$" { print "debian-security", $1, $2, $3 }'
}

# origin URL SUITE: prints whose archive it is, as apt's lists have it; fails where apt has none of
# it. A list's name is the URL without user and scheme, as APT::URItoFileName quotes it.
origin() {
  local name=${1#*:} char code file line
  name=${name#//}
  [[ ${name%%/*} != *@* ]] || name=${name#*@}
  name+=/dists/$2/
  name=${name//'%'/%25}
  while read -r code char; do
    name=${name//"$char"/%$code}
  done <<<$'5f _\n7e ~\n40 @\n3d =\n21 !\n23 #\n24 $\n26 &\n2a *\n5e ^\n5b [\n5d ]\n7b {\n7d }\n7c |\n3c <\n3e >\n22 "'
  for file in "$lists/${name//\//_}"{InRelease,Release}; do
    [[ -r $file ]] || continue
    while read -r line; do
      [[ $line != Origin:* ]] || { line=${line#Origin:}; echo "${line# }"; return; }
      [[ $line != SHA256:* ]] || break
    done <"$file"
  done
  return 1
}

# choose: from sources' lines, the best one for each archive, as lines "ARCHIVE URL". What apt's
# lists say is known; else a source with Debian's own keys is the best guess, one with other keys
# the worst.
choose() {
  local archive url suite key rank owner
  local -A best=() found=()
  while read -r archive url suite key; do
    if owner=$(origin "$url" "$suite"); then
      [[ $owner == Debian ]] || continue
      rank=0
    else
      case $key in
        */debian-archive-*) rank=1 ;;
        -) rank=2 ;;
        *) rank=4 ;;
      esac
      ((rank == 1)) || [[ $url =~ /debian(-security)?(/[0-9TZ]+)?$ || $url == mirror* ]] || rank=$((rank + 1))
    fi
    if [[ -z ${best[$archive]:-} ]] || ((rank < best[$archive])); then
      best[$archive]=$rank found[$archive]=$url
    fi
  done < <(candidates)
  for archive in "${!found[@]}"; do echo "$archive ${found[$archive]}"; done
}

# check VARIABLE URL: a name without a scheme would only fail much later, and obscurely. The message
# is without a password.
check() {
  if [[ ! $2 =~ ^(https?|file)://?[^[:space:]]+$ ]]; then
    printf '%s is "%s": it must be a URL such as http://…/%s\n' "$1" "$(sed -E 's|(^[^/]*//)?[^/]*@|\1…@|' <<<"$2")" \
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
  # Next to the mirror that the user has chosen, rather than wherever the machine's own sources
  # lead.
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
