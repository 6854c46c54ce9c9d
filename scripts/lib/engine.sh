# shellcheck shell=bash
# The Docker engine: the one that is there, else one of our own from the private root. Needs log.sh and root.sh.

ENGINE_DATA=$CACHE/docker
ENGINE_RUN=/run/dind-cluster
ENGINE_LOG=$ENGINE_RUN/docker-engine.log
ENGINE_PID=$ENGINE_RUN/docker-engine.pid
ENGINE_SOCKET=/var/run/docker.sock

# The oldest Docker, as internal/docker and docs/quick-start.md say.
MIN_DOCKER=23

# Seconds that a client, a socket, and an engine that starts have for their first answer.
CLIENT_PATIENCE=30
SOCKET_PATIENCE=10
ENGINE_PATIENCE=60

# docker_client ARGUMENT…: the host's Docker client, or the private root's.
docker_client() {
  if command -v docker >/dev/null; then
    timeout --foreground "$CLIENT_PATIENCE" docker "$@"
  elif [[ -d $(root_path) ]]; then
    (in_root timeout --foreground "$CLIENT_PATIENCE" docker "$@")
  else
    echo "there is no Docker client"
    return 127
  fi
}

# engine_version: prints the version of the engine that the client gets through to; else fails, and prints why.
engine_version() {
  local out status=0
  out=$(docker_client version --format '{{.Server.Version}}' 2>&1) || status=$?
  ((status != 124)) || out="no answer within $CLIENT_PATIENCE seconds"
  printf '%s\n' "${out##*$'\n'}" # warnings come before it
  return "$status"
}

# socket_state SOCKET: prints "nobody" when nobody listens there, "engine" when a Docker engine answers, else what is wrong. The
# client's configuration takes no part. Debian and Ubuntu, where alone an engine is started, cannot be without Perl.
socket_state() {
  # shellcheck disable=SC2016 # they are Perl's variables
  timeout --foreground "$SOCKET_PATIENCE" perl -MSocket -MErrno -e '
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "$!\n";
    if (!connect($socket, pack_sockaddr_un($ARGV[0]))) {
      print $!{ENOENT} || $!{ECONNREFUSED} ? "nobody" : "$!", "\n";
      exit;
    }
    syswrite($socket, "GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n");
    sysread($socket, my $answer, 4096);
    print $answer =~ m{^HTTP/\S+ 200 } ? "engine" : "what listens there is no Docker engine", "\n";
  ' "$1" 2>&1 || echo "who listens there gives no answer within $SOCKET_PATIENCE seconds"
}

# foreign_engine: prints the process of a Docker engine that is in this network namespace, and so works on the same tables of
# packet filters and the same bridge as one that we would start; fails when there is none. Those in containers have their own.
foreign_engine() {
  local file name own
  own=$(readlink /proc/self/ns/net) || return
  for file in /proc/[0-9]*/comm; do
    read -r name 2>/dev/null <"$file" || continue
    [[ $name == dockerd && $(readlink "${file%/comm}/ns/net" 2>/dev/null) == "$own" ]] || continue
    file=${file%/comm}
    echo "${file#/proc/}"
    return
  done
  return 1
}

# refuse_second_engine WHY: dies unless an engine of ours may take the socket; returns 1 when an engine answers there, after all.
# WHY: what the client says.
refuse_second_engine() {
  local why=$1 state pid begin=$SECONDS
  state=$(socket_state "$ENGINE_SOCKET")
  if [[ $state == nobody ]] && pid=$(foreign_engine); then
    say "a Docker engine (process $pid) runs, but does not listen at $ENGINE_SOCKET yet; waiting for it"
    # For the first answer of a program that somebody else has started: no event tells.
    while [[ $state == nobody ]] && [[ -d /proc/$pid ]] && ((SECONDS - begin < ENGINE_PATIENCE)); do
      sleep 0.1
      state=$(socket_state "$ENGINE_SOCKET")
    done
    if [[ $state == nobody && -d /proc/$pid ]]; then
      die "a Docker engine (process $pid) runs, but does not listen at $ENGINE_SOCKET" \
        "A second one would work on the same network. Name the first one's address in DOCKER_HOST, or stop it."
    fi
  fi
  case $state in
    nobody) ;;
    engine)
      engine_version >/dev/null && return 1
      die "a Docker engine answers at $ENGINE_SOCKET, but the client does not get through to it: $why" \
        "$(client_inputs)" "\`docker version\` shows the same. No second engine is started over this one."
      ;;
    *)
      die "no second Docker engine is started at $ENGINE_SOCKET: $state" \
        "The client says: $why" \
        "If an engine is busy, wait for it. If it hangs, restart or stop it. \`ss -xlp\` names who listens."
      ;;
  esac
}

# client_inputs: prints what may lead the client astray.
client_inputs() {
  local variables="${!DOCKER_@}"
  echo "The client goes by ${variables:+the variables ${variables// /, }, }the docker context and ${DOCKER_CONFIG:-~/.docker}/config.json."
}

# client_endpoint: prints what the client's configuration leads to, else fails, and prints what is wrong with it.
client_endpoint() {
  local out status=0
  out=${DOCKER_HOST:-}
  if [[ -z $out ]]; then
    out=$(docker_client context inspect --format '{{.Endpoints.docker.Host}}' 2>&1) || status=$?
    ((status != 127)) || out=unix://$ENGINE_SOCKET status=0
  fi
  printf '%s\n' "${out##*$'\n'}"
  return "$status"
}

# check_engine VERSION: dies when the engine is too old for what a cluster asks of it.
check_engine() {
  local version=$1 major=${1%%.*}
  [[ $major =~ ^[0-9]+$ ]] || return 0
  if ((major < MIN_DOCKER)); then
    die "Docker $version is too old" \
      "Install Docker $MIN_DOCKER or later, or stop this one: scripts/bazel then starts its own."
  fi
}

# ensure_engine: a usable engine answers afterwards.
ensure_engine() {
  local version endpoint
  if version=$(engine_version); then
    check_engine "$version"
    return
  fi
  endpoint=$(client_endpoint) || die "the Docker client does not work: $endpoint" \
    "$(client_inputs)"
  case $endpoint in
    "unix://$ENGINE_SOCKET" | unix:///run/docker.sock) ;;
    "${DOCKER_HOST:-}") die "no Docker engine answers at $endpoint (DOCKER_HOST): $version" "Start it, or unset DOCKER_HOST." ;;
    *)
      die "no Docker engine answers at $endpoint (docker context): $version" \
        "Start it, or choose another one: \`docker context ls\` shows all, DOCKER_CONTEXT=default is the usual one."
      ;;
  esac
  if ((EUID != 0)); then
    die "no Docker engine answers at $ENGINE_SOCKET: $version" \
      "Start Docker, or join its group if it is running (sudo usermod -aG docker \$USER), or run this as root."
  fi
  refuse_second_engine "$version" || return 0
  make_root "$(root_path)" "Install Docker $MIN_DOCKER or later and start it."
  mkdir -p "$ENGINE_RUN"
  (
    flock --timeout 120 9 || die "another call has been starting the Docker engine for two minutes" "Its log: $ENGINE_LOG"
    if ! version=$(engine_version) && refuse_second_engine "$version"; then
      start_engine 9>&-
    fi
  ) 9>"$ENGINE_RUN/lock"
}

# engine_pid: the process of our engine; fails when it is not running. A zombie, which whoever started it has yet to reap,
# does not count, nor does another program that has got the number since.
engine_pid() {
  local pid
  pid=$(cat "$ENGINE_PID" 2>/dev/null) && grep -qE '^[0-9]+ \(dockerd\) [^ZX]' "/proc/$pid/stat" 2>/dev/null && echo "$pid"
}

# socket_group: prints who may use the socket besides root: the host's group docker, else nobody. By its number, which in the
# private root is another group's.
socket_group() {
  local group
  if group=$(getent group docker 2>/dev/null); then
    cut -d : -f 3 <<<"$group"
  else
    echo root
  fi
}

start_engine() {
  local begin=$SECONDS job group version
  say "no Docker engine answers; starting one from the private root (log: $ENGINE_LOG)"
  mkdir -p "$ENGINE_DATA" "$ENGINE_RUN"
  # An engine that was killed leaves the file, and the next one believes it.
  engine_pid >/dev/null || rm -f "$ENGINE_PID"
  echo '{}' >"$ENGINE_RUN/daemon.json" # not /etc/docker's, which is for another engine
  group=$(socket_group)
  (
    # The engine outlives this shell: no terminal, no open files of the caller, a session of its own.
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd <= 2)) || eval "exec $fd>&-"
    done
    cd /
    unset "${!DOCKER_@}" # they are for clients, and it heeds some
    exec setsid unshare --mount --propagation slave -- "$SCRIPTS/lib/enter.sh" "$(root_path)" \
      "$SCRIPTS/lib/engine-main.sh" --host="unix://$ENGINE_SOCKET" --group="$group" --data-root="$ENGINE_DATA" \
      --pidfile="$ENGINE_PID" --config-file="$ENGINE_RUN/daemon.json"
  ) </dev/null >"$ENGINE_LOG" 2>&1 &
  job=$!
  # Waiting for a program's first answer: no event tells.
  while [[ $(socket_state "$ENGINE_SOCKET") != engine ]]; do
    if ! kill -0 "$job" 2>/dev/null || ((SECONDS - begin > ENGINE_PATIENCE)); then
      tail -n 15 "$ENGINE_LOG" >&2
      die "the Docker engine does not start" "Its whole log: $ENGINE_LOG"
    fi
    sleep 0.1
  done
  version=$(engine_version) || die "the Docker engine has started, but the client does not get through to it: $version" \
    "$(client_inputs)"
  say "Docker $version answers at $ENGINE_SOCKET: $((SECONDS - begin)) s (scripts/docker is its client, scripts/docker-engine stop ends it)"
}
