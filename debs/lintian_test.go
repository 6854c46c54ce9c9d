package debs

import (
	"strings"
	"testing"
)

// TestLintian checks the packages against Debian's policy.
func TestLintian(t *testing.T) {
	r := newRoot(t)
	args := []string{"lintian", "--allow-root", "--fail-on", "error", "--tag-display-limit", "0", "--show-overrides"}
	for _, deb := range r.debs {
		args = append(args, deb)
	}
	out, err := r.try(args...)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
		return
	}
	warnings := 0
	for _, line := range strings.Split(out, "\n") {
		if strings.HasPrefix(line, "W:") {
			warnings++
		}
	}
	t.Logf("no errors, %d warnings:\n%s", warnings, out)
}
