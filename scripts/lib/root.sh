# shellcheck shell=bash
# The private root: a Debian testing with Bazel and Docker in the user's cache folder. Needs log.sh and mirrors.sh.

CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/dind-cluster

# root_path: where the root of this checkout's recipe is, or will be.
root_path() {
  local hash
  hash=$(cat "$SCRIPTS/lib/recipe.sh" "$SCRIPTS/../.bazelversion" | sha256sum)
  printf '%s/root-%s\n' "$CACHE" "${hash:0:12}"
}

# root_unavailable: prints why no private root can be made here; fails when one can.
root_unavailable() {
  local like
  # shellcheck source=/dev/null # the host's
  like=$(. "${OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo " ${ID:-} ${ID_LIKE:-} ") || like=
  if [[ $like != *' debian '* && $like != *' ubuntu '* ]]; then
    echo "this is not Debian or Ubuntu"
  elif ((EUID != 0)); then
    echo "only root can make a private Debian root"
  elif ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "there is no apt-get and dpkg here"
  else
    return 1
  fi
}

# fetch_package NAME DIR: unpacks Debian's package NAME into DIR; the host does not get it installed.
fetch_package() {
  local name=$1 dir=$2
  local download=(apt-get -o APT::Sandbox::User=root download "$name")
  mkdir -p "$dir/debs" &&
    # A fresh container has no package lists yet.
    (cd "$dir/debs" && { "${download[@]}" || { apt-get update && "${download[@]}"; }; }) &&
    dpkg-deb -x "$dir/debs/${name}"_*.deb "$dir"
}

# fetch_tools DIR: debootstrap, and Debian's keys unless the host has them, in DIR.
fetch_tools() {
  local dir=$1
  fetch_package debootstrap "$dir" || return
  [[ -s $KEYRING ]] || fetch_package debian-archive-keyring "$dir" || return
  # debootstrap downloads with wget; apt's own helper is there on every host and knows apt's proxy.
  mkdir -p "$dir/bin"
  cat >"$dir/bin/wget" <<'END'
#!/bin/sh
for last; do :; done
while [ $# -gt 0 ]; do
  case $1 in -O) out=$2; shift ;; esac
  shift
done
exec /usr/lib/apt/apt-helper ${AUTH:+-o "Dir::Etc::netrc=$AUTH"} -o APT::Sandbox::User=root -o Acquire::Retries=3 download-file "$last" "$out"
END
  chmod +x "$dir/bin/wget"
}

# make_root ROOT ADVICE…: makes the private root unless it is there. ADVICE: what to do where none can be made.
make_root() {
  local root=$1 why lock
  shift
  [[ ! -d $root ]] || return 0
  if why=$(root_unavailable); then
    die "a private Debian root is needed, but $why" "$@"
  fi
  mkdir -p "$CACHE"
  exec {lock}>"$CACHE/lock"
  if ! flock -n "$lock"; then
    say "another call is making the private root; waiting for it"
    flock "$lock"
  fi
  [[ -d $root ]] || build_root "$root"
  exec {lock}>&-
}

# new_log: an empty log for the steps, readable for its owner: it has what apt says about proxies.
new_log() {
  STEP_LOG=$CACHE/root.log
  rm -f "$STEP_LOG"
  (umask 077 && : >"$STEP_LOG")
}

# keep_login FILE: the user and password in DEBIAN_MIRROR, for apt; AUTH is FILE then, else "".
keep_login() {
  (umask 077 && url_login "$DEBIAN_MIRROR" >"$1")
  AUTH=
  [[ ! -s $1 ]] || AUTH=$1
  export AUTH
}

build_root() {
  local root=$1 mirror tmp begin=$SECONDS free want why
  need_mirror
  mirror=$(bare_url "$DEBIAN_MIRROR")
  free=$(df --output=avail -k "$CACHE" | tail -n 1)
  ((free > 5 * 1024 * 1024)) || die "the private root needs 5 GiB below $CACHE; $((free / 1024)) MiB are free" \
    "Make room, or point XDG_CACHE_HOME elsewhere."
  want=$(<"$SCRIPTS/../.bazelversion")

  # Whatever an interrupted call has left: nobody else holds the lock.
  rm -rf --one-file-system "$CACHE"/making.*
  tmp=$CACHE/making.$$
  # shellcheck disable=SC2064 # the folder's name is known now
  trap "rm -rf --one-file-system '$tmp'" EXIT
  trap 'interrupt 130' INT
  trap 'interrupt 143' TERM HUP
  mkdir -p "$tmp"
  new_log
  keep_login "$tmp/auth.conf"
  KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

  say "making a private Debian root with Bazel $want and Docker in $root (once; some minutes, 3 GB)"
  step "debootstrap" fetch_tools "$tmp/tools" || exit 36
  [[ -s $KEYRING ]] || KEYRING=$tmp/tools$KEYRING
  export KEYRING
  # In a namespace of their own, so that no mount and no process is left when they are interrupted.
  local recipe=(setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child "$SCRIPTS/lib/recipe.sh")
  PATH=$tmp/tools/bin:$PATH step "Debian's base from $mirror" \
    "${recipe[@]}" base "$tmp/root" "$mirror" "$SUITE" "$tmp/tools" ||
    die "no Debian could be made from $mirror" "If it is the mirror's fault, name another in DEBIAN_MIRROR."
  if ! step "Bazel, Docker and what they need" "${recipe[@]}" packages "$tmp/root" "$want"; then
    if why=$(grep '^no-bazel: ' "$STEP_LOG"); then
      die "${why#no-bazel: }" "Name a mirror that still has it in DEBIAN_MIRROR, such as a dated snapshot of Debian," \
        "or put Bazel $want or Bazelisk on your PATH."
    fi
    exit 36
  fi
  mv -T "$tmp/root" "$root"
  rm -rf --one-file-system "$tmp"
  trap - EXIT INT TERM HUP
  say "private root made in $((SECONDS - begin)) s"
}

# The suite of the private root.
SUITE=testing

# root_age: prints how many days ago the private root's packages were those of its mirror.
root_age() {
  local updated
  updated=$(stat -c %Y "$(root_path)/etc/dind-cluster-updated" 2>/dev/null) && echo $((($(date +%s) - updated) / 86400))
}

# note_age: says so when the private root's packages are old. Security updates come on request only: an engine that runs, and
# containers in it, are not ours to restart.
note_age() {
  local days
  if days=$(root_age) && ((days > 30)); then
    say "the packages of the private root, Docker among them, are $days days old: scripts/docker-engine update brings new ones"
  fi
}

# update_root: the private root's packages, but Bazel, as the mirror has them today.
update_root() {
  local root lock tmp
  root=$(root_path)
  [[ -d $root ]] || die "there is no private root, so there is nothing to update"
  ((EUID == 0)) || die "only root can update the private root"
  need_mirror
  exec {lock}>"$CACHE/lock"
  flock --timeout 1800 "$lock" || die "another call has been making the private root for half an hour"
  tmp=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder's name is known now
  trap "rm -rf '$tmp'" EXIT
  new_log
  keep_login "$tmp/auth.conf"
  step "packages of $(bare_url "$DEBIAN_MIRROR")" setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
    "$SCRIPTS/lib/recipe.sh" update "$root" "$(bare_url "$DEBIAN_MIRROR")" "$SUITE" || exit 36
  exec {lock}>&-
}

# interrupt STATUS: ends the step under way, then this shell; its EXIT trap tidies up.
interrupt() {
  trap '' INT TERM HUP
  if [[ -n ${STEP_PID:-} ]]; then
    kill "$STEP_PID" 2>/dev/null || true
    wait "$STEP_PID" 2>/dev/null || true
  fi
  say "interrupted; nothing is left behind"
  exit "$1"
}

# in_root COMMAND…: replaces this shell by COMMAND inside the private root.
in_root() {
  DIND_CLUSTER_WORKSPACE=$(cd "$SCRIPTS/.." && pwd -P)
  export DIND_CLUSTER_WORKSPACE
  # For what has to run on the host; an open file, since not everybody may look at the namespaces of process 1.
  local mounts
  exec {mounts}</proc/self/ns/mnt
  export DIND_CLUSTER_HOST_MOUNTS=/proc/self/fd/$mounts
  exec unshare --mount --propagation slave -- "$SCRIPTS/lib/enter.sh" "$(root_path)" "$@"
}
