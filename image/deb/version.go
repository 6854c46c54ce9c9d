package deb

import (
	"cmp"

	"pault.ag/go/debian/version"
)

// CompareVersions compares two package versions
// (https://www.debian.org/doc/debian-policy/ch-controlfields.html#version). They have to be valid,
// as those of Read and ParseRelations are.
func CompareVersions(a, b string) int {
	versionA, _ := version.Parse(a)
	versionB, _ := version.Parse(b)
	return cmp.Compare(version.Compare(versionA, versionB), 0)
}
