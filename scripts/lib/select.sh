# shellcheck shell=bash
# Decisions of scripts/bazel that touch nothing: which Bazel, and whether the command needs Docker.

# version_fits FOUND WANT: the same minor version, not an older patch; Debian appends a "-" to its own.
version_fits() {
  local found=${1%%[-+~ ]*} want=$2
  [[ $found =~ ^[0-9]+\.[0-9]+\.[0-9]+$ && ${found%.*} == "${want%.*}" ]] && ((${found##*.} >= ${want##*.}))
}

# fitting_bazel WANT: the first Bazel or Bazelisk on PATH of that version. A Bazelisk that cannot download fails here.
fitting_bazel() {
  local want=$1 candidates candidate found
  mapfile -t candidates < <(type -aP bazel bazelisk || true)
  for candidate in "${candidates[@]}"; do
    [[ ! $candidate -ef $SCRIPTS/bazel ]] || continue
    # --version starts no server. Bazelisk may have to download Bazel first.
    found=$(cd "$SCRIPTS/.." && timeout --foreground 300 "$candidate" --version 2>/dev/null </dev/null) || continue
    if version_fits "${found#bazel }" "$want"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

# needs_docker ARGUMENT…: whether Bazel's command runs something. The command is the first word that is one:
# startup options before it may take a value of their own.
needs_docker() {
  local word
  for word in "$@"; do
    case $word in
      run | test | coverage) return 0 ;;
      aquery | build | clean | cquery | dump | fetch | help | info | mod | query | shutdown | sync | vendor | version) return 1 ;;
    esac
  done
  return 1
}
