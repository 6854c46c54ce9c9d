# shellcheck shell=bash
# Messages of the scripts: all on standard error, so that a program's output stays its own.

say() { printf '%s: %s\n' "${PROGRAM:-scripts}" "$*" >&2; }

# die MESSAGE [LINE…]: what went wrong, then what to do about it; status 36 is Bazel's "local environmental issue".
die() {
  say "error: $1"
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 36
}

# step WHAT COMMAND…: one progress line when it starts (it may take a while) and one with the time it took.
# The command's output goes to $STEP_LOG and is shown only when it fails. In the background, because a shell runs its
# traps only between foreground commands: $STEP_PID is for them.
step() {
  local what=$1 begin=$SECONDS from
  shift
  say "$what …"
  from=$(wc -l <"$STEP_LOG")
  "$@" >>"$STEP_LOG" 2>&1 </dev/null &
  STEP_PID=$!
  if ! wait "$STEP_PID"; then
    STEP_PID=
    tail -n "+$((from + 1))" "$STEP_LOG" | tail -n 25 >&2
    say "error: $what failed after $((SECONDS - begin)) s; whole log: $STEP_LOG"
    return 1
  fi
  STEP_PID=
  say "$what: $((SECONDS - begin)) s"
}
