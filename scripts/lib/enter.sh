#!/bin/bash
# enter.sh ROOT COMMAND…: runs COMMAND with ROOT as its /, everything of the host but its operating system in place.
#
# Call it as `unshare --mount --propagation slave enter.sh …`. Nothing forks on the way to COMMAND, so its signals,
# standard input and exit status are the caller's. The host's home, workspace, /tmp and so on appear at their own
# paths: a Bazel server started by one call serves the next one, although each has a mount namespace of its own.
#
# Why not chroot: the Docker engine has to make mounts below a / that is a mount point.
set -euo pipefail

root=$1
shift
cwd=$PWD

# expose PATH: the host's file or folder at the same path inside, unless it is there already.
expose() {
  local path=$1
  [[ -n $path && -e $path ]] || return 0
  case $path in
    /usr | /usr/bin* | /usr/sbin* | /usr/lib | /usr/lib/* | /etc | /var | /bin* | /sbin* | /lib*) return 0 ;;
    /usr/* | /etc/* | /var/*) ;;
    *) return 0 ;; # its top folder is bound as a whole
  esac
  if [[ -d $path ]]; then
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
  else
    mkdir -p "$root${path%/*}"
    [[ -e $root$path ]] || : >"$root$path"
    mount --bind "$path" "$root$path"
  fi
}

# pivot_root wants a mount point; an unbindable one does not multiply when the folder that holds it is bound below.
mount --bind "$root" "$root"
mount --make-unbindable "$root"

for top in /*; do
  case $top in
    /bin | /sbin | /lib | /lib32 | /lib64 | /libx32 | /usr | /etc | /var | /boot | /lost+found) continue ;;
  esac
  [[ -d $top && ! -L $top ]] || continue
  mkdir -p "$root$top"
  mount --rbind "$top" "$root$top"
done

# The running kernel's modules, for modprobe.
if [[ -d /lib/modules ]]; then
  mkdir -p "$root/usr/lib/modules"
  mount --rbind /lib/modules "$root/usr/lib/modules"
fi

# Name resolution: most hosts rewrite /etc/resolv.conf by renaming, which a bound file would not follow.
resolv=$(readlink -f /etc/resolv.conf || true)
case $resolv in
  /run/*)
    [[ $(readlink "$root/etc/resolv.conf" || true) == "$resolv" ]] || ln -sfn "$resolv" "$root/etc/resolv.conf"
    ;;
  *)
    [[ ! -L $root/etc/resolv.conf ]] || rm -f "$root/etc/resolv.conf"
    expose /etc/resolv.conf
    ;;
esac

# A company's proxy has its own certificate authority: the host's bundle counts, not the root's.
if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
  expose /etc/ssl/certs
  expose /usr/share/ca-certificates
  expose /usr/local/share/ca-certificates
fi
for path in /etc/hosts /etc/gitconfig /etc/bazel.bazelrc "${SSL_CERT_FILE:-}" "${SSL_CERT_DIR:-}" "${GIT_SSL_CAINFO:-}" \
  "${HOME:-}" "${XDG_CACHE_HOME:-}" "${TMPDIR:-}" "${DIND_CLUSTER_WORKSPACE:-}"; do
  [[ $path == /etc/ssl/certs* ]] || expose "$path"
done

# Go: the host's own when somebody put one there, else the root's.
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
go=$(readlink -f "$(command -v go || true)" || true)
case $go in
  '' | /usr/bin/* | /usr/lib/*) ;;
  */bin/go)
    expose "${go%/bin/go}"
    path=${go%/go}:$path
    ;;
esac

# Docker's credential helpers are the host's, with whatever they need: so they run there.
mapfile -t helpers < <(compgen -c docker-credential- | sort -u)
if [[ -n ${DIND_CLUSTER_HOST_MOUNTS:-} && ${#helpers[@]} -gt 0 ]]; then
  folder=/usr/local/lib/dind-cluster
  mkdir -p "$root$folder"
  mount -t tmpfs -o size=1m,mode=755 helpers "$root$folder"
  for helper in "${helpers[@]}"; do
    printf '#!/bin/bash\nPATH=%q exec nsenter --mount=%q -- %q "$@"\n' \
      "$PATH" "$DIND_CLUSTER_HOST_MOUNTS" "$(type -P "$helper")" >"$root$folder/$helper"
    chmod +x "$root$folder/$helper"
  done
  path=$folder:$path
fi
unset DIND_CLUSTER_HOST_MOUNTS
export PATH=$path:$PATH

# Debian's Bazel finds its own Java; the host's is not there.
[[ -z ${JAVA_HOME:-} || -d $root$JAVA_HOME ]] || unset JAVA_HOME

cd "$root"
pivot_root . .
umount -l .
mount --make-rshared /
cd "$cwd" 2>/dev/null || cd /
exec "$@"
