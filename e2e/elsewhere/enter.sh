# enter.sh root|user|none LOCALTIME COMMAND…: runs a command with another umask and, with namespaces of its own, another host
# name and time zone. Anyone but root needs a user namespace to make the others, and another one to be the same user again.
namespaces=$1 localtime=$2
shift 2
umask 077
# A machine without /etc/localtime is one without a time zone, which is UTC.
become='hostname another-host; if [ -e /etc/localtime ]; then mount --bind "$0" /etc/localtime; fi; exec "$@"'
case $namespaces in
root) exec unshare --uts --mount sh -euc "$become" "$localtime" "$@" ;;
user)
  exec unshare --user --map-root-user --uts --mount sh -euc "$become" "$localtime" \
    unshare --user --map-user="$(id -u)" --map-group="$(id -g)" "$@"
  ;;
none) exec "$@" ;;
esac
