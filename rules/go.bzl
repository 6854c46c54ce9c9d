"""The channel of locked Go modules.

Two repository rules bring every Go input into the workspace:

* `go_module` fetches one module as it is: a ruleset, or the Go SDK.
* `go_universe` reads one upstream's lock (go.mod and go.sum) and declares each of its modules, with
  a prefix, so that several upstreams, each with its own dependency versions, live side by side.

Both fetch through the `go` command, so the user's module proxy and credentials apply, and both
check each module's `h1:` sum.
"""

load("//rules/private/go:module.bzl", _go_module = "go_module")
load("//rules/private/go:universe.bzl", _go_universe = "go_universe")

go_module = _go_module
go_universe = _go_universe
