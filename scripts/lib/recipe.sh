#!/bin/bash
# recipe.sh: what the private root is made of. Its hash is part of the root's name, so an edit here makes a new root.
# Run as `recipe.sh base DIR MIRROR SUITE DEBOOTSTRAP`, then `recipe.sh packages DIR WANT` in a mount namespace of its own; later
# `recipe.sh update DIR MIRROR SUITE` there, too. MIRROR is without a password: AUTH is a file for apt's auth.conf, or "".
set -euo pipefail

# bazel-bootstrap brings Java, a C compiler and Python; the rest is Docker, and what repository rules and tests call.
packages=(
  bazel-bootstrap
  ca-certificates
  docker-cli
  docker.io
  e2fsprogs
  git
  golang-go
  iptables
  kmod
  procps
  xfsprogs
  xz-utils
  zip
  zstd
)

# settings DIR MIRROR SUITE: what apt goes by in the root: the mirror of today, and the host's proxies.
settings() {
  local root=$1 mirror=$2 suite=$3
  echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"
  # A mirror that is itself a snapshot serves a Release file that has expired.
  cat >"$root/etc/apt/apt.conf.d/99dind-cluster" <<-'END'
	APT::Install-Recommends "false";
	Acquire::Check-Valid-Until "false";
	Acquire::Languages "none";
	Dpkg::Use-Pty "0";
	END
  mkdir -p "$root/etc/apt/auth.conf.d"
  # Both may have passwords.
  umask 077
  apt-config dump | grep -iE '^Acquire::(https?|ftp)::(Proxy|No-Proxy|Verify)' >"$root/etc/apt/apt.conf.d/98dind-cluster-proxy" || true
  cat "${AUTH:-/dev/null}" >"$root/etc/apt/auth.conf.d/dind-cluster.conf"
  umask 022
}

base() {
  local root=$1 mirror=$2 suite=$3 debootstrap=$4
  # testing changes its code name with every release; debootstrap's `sid` script knows them all.
  DEBOOTSTRAP_DIR=$debootstrap/usr/share/debootstrap "$debootstrap/usr/sbin/debootstrap" --variant=minbase \
    --keyring="$KEYRING" "$suite" "$root" "$mirror" "$debootstrap/usr/share/debootstrap/scripts/sid"
  settings "$root" "$mirror" "$suite"
  cat >"$root/etc/dpkg/dpkg.cfg.d/dind-cluster" <<-'END'
	path-exclude /usr/share/doc/*
	path-exclude /usr/share/man/*
	path-exclude /usr/share/locale/*
	force-unsafe-io
	END
  # No package may start its service.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
}

# ready DIR: what programs in the root need to run, for the time of this namespace.
ready() {
  local root=$1
  # openjdk's postinst reads /proc.
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  # enter.sh makes it a link to a file of the host's /run where the host's is one.
  [[ ! -L $root/etc/resolv.conf ]] || rm -f "$root/etc/resolv.conf"
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  cp -L /etc/hosts "$root/etc/hosts"
  export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  chroot "$root" apt-get update --error-on=any
}

# adapt DIR: what is not as the packages have it, and the time.
adapt() {
  local root=$1 store
  # Debian's defaults (overridden modules, kept sandboxes) are not for us: every Bazel 7.7 is to do the same here.
  sed -i -E '/^(build|common) /d' "$root/etc/bazel/bazelrc"
  # The host's /etc/ssl/certs will lie over this one, and may have no Java keystore.
  cp "$root/etc/ssl/certs/java/cacerts" "$root/etc/ssl/java-cacerts"
  for store in "$root"/usr/lib/jvm/java-*/lib/security/cacerts; do
    ln -sf /etc/ssl/java-cacerts "$store"
  done
  chroot "$root" apt-get clean
  touch "$root/etc/dind-cluster-updated"
}

packages() {
  local root=$1 want=$2 found
  ready "$root"
  found=$(chroot "$root" apt-cache policy bazel-bootstrap | awk '$1 == "Candidate:" {print $2}')
  if [[ $found != "$want"[+~-]* && $found != "$want" ]]; then
    echo "no-bazel: the mirror's testing carries Bazel ${found:-(none)}, not $want"
    return 1
  fi
  # The certificate authorities that this machine's administrator added hold for Java too.
  if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp -L /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
  fi
  chroot "$root" apt-get install -y "${packages[@]}"
  # .bazelversion says which Bazel it is.
  chroot "$root" apt-mark hold bazel-bootstrap
  adapt "$root"
}

# update DIR MIRROR SUITE: all packages but Bazel as the mirror has them today.
update() {
  local root=$1
  settings "$@"
  ready "$root"
  # Whatever an interrupted update has left.
  chroot "$root" dpkg --configure -a
  chroot "$root" apt-get -y -o Dpkg::Options::=--force-confold --with-new-pkgs upgrade
  adapt "$root"
}

"$@"
