# shellcheck shell=bash
# The Debian archives that this machine uses. Needs log.sh.

# find_mirrors: exports DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR, for Bazel's repository rules too; the private root that
# they run in has apt sources of its own. What is not known stays unset.
find_mirrors() {
  local found archive url
  found=$("$SCRIPTS/../rules/private/debian/mirrors.sh" 2>&1) || die "$found"
  while read -r archive url; do
    case $archive in
      debian) export DEBIAN_MIRROR=$url ;;
      debian-security) export DEBIAN_SECURITY_MIRROR=$url ;;
    esac
  done <<<"$found"
}

# need_mirror: DEBIAN_MIRROR is a mirror as it is today afterwards.
need_mirror() {
  find_mirrors
  [[ -n ${DEBIAN_MIRROR:-} ]] || die "no Debian mirror is known: apt's sources name none" \
    "Name one in DEBIAN_MIRROR, as http://…/debian: your company's, or one of Debian's own list." \
    "On Ubuntu this is always needed."
  [[ $DEBIAN_MIRROR${DEBIAN_SECURITY_MIRROR:-} != *'{snapshot}'* ]] ||
    die "{snapshot} in DEBIAN_MIRROR stands for the date of a lock, and here is none to take it from" \
      "Put a date in its place, such as 20260102T030405Z."
}

# bare_url URL: prints it without user and password, as it may be shown, stored and passed to programs.
bare_url() { sed -E 's|^([^/]*//)[^/@]*@|\1|' <<<"$1"; }

# url_login URL: prints a line for apt's auth.conf with the user and password of the URL; nothing if it has none.
url_login() {
  [[ $1 =~ ^(https?://)([^/@:]*):?([^/@]*)@(.*)$ ]] || return 0
  local user=${BASH_REMATCH[2]//%/\\x} password=${BASH_REMATCH[3]//%/\\x}
  # A machine without a scheme is one of https alone.
  printf 'machine %s login %b password %b\n' "${BASH_REMATCH[1]}${BASH_REMATCH[4]}" "$user" "$password"
}
