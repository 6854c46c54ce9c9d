//go:build programs

// Package universe names the programs that this universe builds.
package universe

import (
	_ "sigs.k8s.io/metrics-server/cmd/metrics-server"
)
