# shellcheck shell=bash
# The Docker engine: the one that is there, else one of our own from the private root. Needs log.sh and root.sh.

ENGINE_DATA=$CACHE/docker
ENGINE_RUN=/run/dind-cluster
ENGINE_LOG=$ENGINE_RUN/docker-engine.log
ENGINE_PID=$ENGINE_RUN/docker-engine.pid
ENGINE_SOCKET=/var/run/docker.sock

# docker_client ARGUMENT…: the host's Docker client, or the private root's.
docker_client() {
  if command -v docker >/dev/null; then
    docker "$@"
  elif [[ -d $(root_path) ]]; then
    (in_root docker "$@")
  else
    return 127
  fi
}

# engine_version: the version of the engine that answers; fails when none does.
engine_version() { docker_client version --format '{{.Server.Version}}' 2>/dev/null; }

# check_engine VERSION: dies when the engine is too old for what a cluster asks of it.
check_engine() {
  local version=$1 major=${1%%.*} bounding
  [[ $major =~ ^[0-9]+$ ]] || return 0
  bounding=$(awk '$1 == "CapBnd:" {print $2}' /proc/self/status)
  # CAP_SYS_RESOURCE is bit 24. Docker 20.10 grants capabilities that it does not have itself: "unable to apply caps".
  if ((major < 20)) || ((major < 23 && (16#$bounding >> 24 & 1) == 0)); then
    die "Docker $version is too old to start privileged containers here" \
      "Install Docker 23 or later, or stop this one: scripts/bazel then starts its own."
  fi
}

# ensure_engine: a usable engine answers afterwards.
ensure_engine() {
  local version
  if version=$(engine_version); then
    check_engine "$version"
    return
  fi
  if [[ -n ${DOCKER_HOST:-} && $DOCKER_HOST != "unix://$ENGINE_SOCKET" && $DOCKER_HOST != "unix:///run/docker.sock" ]]; then
    die "no Docker engine answers at $DOCKER_HOST (DOCKER_HOST)" "Start it, or unset DOCKER_HOST."
  fi
  if ((EUID != 0)); then
    die "no Docker engine answers at $ENGINE_SOCKET" \
      "Start Docker, or join its group if it is running (sudo usermod -aG docker \$USER), or run this as root."
  fi
  make_root "$(root_path)" "Install Docker 23 or later and start it."
  mkdir -p "$ENGINE_RUN"
  (
    flock 9
    engine_version >/dev/null || start_engine 9>&-
  ) 9>"$ENGINE_RUN/lock"
}

# engine_pid: the process of our engine; fails when it is not running. A zombie, which whoever started it has yet to reap,
# does not count, nor does another program that has got the number since.
engine_pid() {
  local pid
  pid=$(cat "$ENGINE_PID" 2>/dev/null) && grep -qE '^[0-9]+ \(dockerd\) [^ZX]' "/proc/$pid/stat" 2>/dev/null && echo "$pid"
}

start_engine() {
  local begin=$SECONDS job
  say "no Docker engine answers; starting one from the private root (log: $ENGINE_LOG)"
  mkdir -p "$ENGINE_DATA" "$ENGINE_RUN"
  # An engine that was killed leaves the file, and the next one believes it.
  engine_pid >/dev/null || rm -f "$ENGINE_PID"
  echo '{}' >"$ENGINE_RUN/daemon.json" # not /etc/docker's, which is for another engine
  (
    # The engine outlives this shell: no terminal, no open files of the caller, a session of its own.
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd <= 2)) || eval "exec $fd>&-"
    done
    cd /
    unset DOCKER_HOST DOCKER_CONTEXT
    exec setsid unshare --mount --propagation slave -- "$SCRIPTS/lib/enter.sh" "$(root_path)" \
      "$SCRIPTS/lib/engine-main.sh" --host="unix://$ENGINE_SOCKET" --data-root="$ENGINE_DATA" --pidfile="$ENGINE_PID" \
      --config-file="$ENGINE_RUN/daemon.json"
  ) </dev/null >"$ENGINE_LOG" 2>&1 &
  job=$!
  # Waiting for a program's first answer: no event tells.
  while ! engine_version >/dev/null; do
    if ! kill -0 "$job" 2>/dev/null || ((SECONDS - begin > 60)); then
      tail -n 15 "$ENGINE_LOG" >&2
      die "the Docker engine does not start" "Its whole log: $ENGINE_LOG"
    fi
    sleep 0.1
  done
  say "Docker $(engine_version) answers at $ENGINE_SOCKET: $((SECONDS - begin)) s (scripts/docker is its client, scripts/docker-engine stop ends it)"
}
