package deb

import (
	"cmp"

	"pault.ag/go/debian/version"
)

// CompareVersions orders two package versions as Debian's policy says (5.6.12). They are valid: Read and ParseRelations see to it.
func CompareVersions(a, b string) int {
	versionA, _ := version.Parse(a)
	versionB, _ := version.Parse(b)
	return cmp.Compare(version.Compare(versionA, versionB), 0)
}
