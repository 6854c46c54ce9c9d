// Package version knows which version of dind-cluster a program belongs to.
package version

// Version is the project's, like 0.6.0. Bazel sets it from version.bzl; the plain go command makes "devel".
var Version = "devel"
