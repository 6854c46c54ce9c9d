//go:build programs

// Package universe names the programs that this universe builds.
package universe

import (
	_ "github.com/bazelbuild/buildtools/buildifier"
	_ "github.com/polyfloyd/go-errorlint"
	_ "golang.org/x/tools/cmd/deadcode"
	_ "honnef.co/go/tools/cmd/staticcheck"
)
