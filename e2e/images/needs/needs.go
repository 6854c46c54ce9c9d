// Package needs finds out which images the specs of Kubernetes' e2e.test use, so that a missing one
// is known before a cluster is.
//
// e2e.test can list all images that any of its specs may use, but not which of them a spec or a
// selection needs. The answer is in its source: from each spec that a dry run reports, everything
// that its code mentions is followed, function by function, to the images at its ends. What cannot
// be decided by names alone counts as used (a value of a type may have any of the type's methods
// called), so an image may be found needlessly, but none is missed that is named in the source of
// the tests or in a manifest whose file name stands there.
package needs

// Cut is a function that no spec runs although its name is mentioned on the way.
type Cut struct {
	// Func is package.Function or package.Type.Method, the package by its path below the
	// repository's root: test/e2e/dra/utils.Driver.SetUp.
	Func string
	// Reason says why it does not run.
	Reason string
}
