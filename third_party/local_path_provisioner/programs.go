//go:build programs

// Package universe names the programs that this universe builds.
package universe

import (
	_ "github.com/rancher/local-path-provisioner"
)
