package debs

import (
	"strings"
	"testing"
)

// suppressed are warnings that hold for every package, so that none carries an override.
var suppressed = []string{
	"initial-upload-closes-no-bugs", // None is uploaded to Debian, where a first upload answers a request for it.
	"no-manual-page",                // Upstream writes none: its programs' help and its website are their manual.
}

// TestLintian checks the packages against Debian's policy: warnings are mistakes, too. What single packages mean stands in
// their overrides, tag by tag, with the reason.
func TestLintian(t *testing.T) {
	r := newRoot(t)
	args := []string{
		"lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", "--show-overrides",
		"--suppress-tags", strings.Join(suppressed, ","),
	}
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
