// Written by scripts/lock; do not edit.
// upstream: github.com/bazelbuild/buildtools@v0.0.0-20250930140053-2eb4fccefb52 2025-09-30T14:00:53Z
// upstream: github.com/polyfloyd/go-errorlint@v1.8.0 2025-04-02T16:03:36Z
// upstream: golang.org/x/tools@v0.52.0 2026-10-10T19:29:17Z
// upstream: honnef.co/go/tools@v0.8.2 2026-10-12T13:34:44Z
module universe.invalid/checks

go 1.26.0

require (
	github.com/BurntSushi/toml v1.4.1-0.20240526193622-a339e1f7089c
	github.com/bazelbuild/buildtools v0.0.0-20250930140053-2eb4fccefb52
	github.com/golang/protobuf v1.5.0
	github.com/google/go-cmp v0.7.0
	github.com/polyfloyd/go-errorlint v1.8.0
	github.com/yuin/goldmark v1.4.13
	go.starlark.net v0.0.0-20210223155950-e043a3d3c984
	golang.org/x/exp v0.0.0-20231110203233-9a3e6036ecaa
	golang.org/x/exp/typeparams v0.0.0-20231108232855-2478ac86f678
	golang.org/x/mod v0.42.0
	golang.org/x/net v0.61.0
	golang.org/x/sync v0.24.0
	golang.org/x/sys v0.49.0
	golang.org/x/telemetry v0.0.0-20261009151841-97e8ea77aa2a
	golang.org/x/tools v0.52.0
	golang.org/x/tools/go/expect v0.1.1-deprecated
	google.golang.org/protobuf v1.33.0
	honnef.co/go/tools v0.8.2
)
