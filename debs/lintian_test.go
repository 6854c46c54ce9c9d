package debs

import "testing"

// TestLintian checks the packages against Debian's policy: warnings are mistakes, too. What is meant stands in the overrides,
// tag by tag, with the reason.
func TestLintian(t *testing.T) {
	r := newRoot(t)
	args := []string{"lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", "--show-overrides"}
	for _, deb := range r.debs {
		args = append(args, deb)
	}
	out, err := r.try(args...)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		return
	}
	t.Logf("%s", out)
}
