// Package browsertest lets tests of HTML pages see what a browser makes of them: Debian's
// chromium-headless-shell, in a root of its own packages (third_party/debian/chromium.packages),
// which Bazel hands to the test. It needs user namespaces.
package browsertest

import (
	"bytes"
	"context"
	"flag"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/image/debroot"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var packages repeated.Strings

// Main runs the tests of a package. Call it in TestMain.
func Main(m *testing.M) {
	debroot.Init()
	flag.Var(&packages, "browser-package", "Debian `package` of the browser, or that it needs, below $TEST_SRCDIR; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// seen finds what a script has left in the page.
var seen = regexp.MustCompile(`<body[^>]* data-seen="([^"]*)"`)

// limit is for a page that does not end.
const limit = 2 * time.Minute

// Eval opens a page, runs the body of an asynchronous JavaScript function in it, and returns what
// that returns, as text. The page's own policy has to allow inline scripts. Without Bazel, which
// brings the browser, the test is skipped.
func Eval(t *testing.T, page []byte, body string) string {
	t.Helper()
	if len(packages) == 0 {
		t.Skip("there is no browser: `bazel test` brings one")
	}
	root := t.TempDir()
	var files []string
	for _, p := range packages {
		files = append(files, filepath.Join(os.Getenv("TEST_SRCDIR"), p))
	}
	if err := debroot.Lay(root, files, func(path string) bool { return !strings.HasPrefix(path, "usr/share/doc/") }); err != nil {
		t.Fatal(err)
	}
	script := "<script>(async () => {" + body + "})().catch(e => e).then(v => { document.body.dataset.seen = v; })</script></body>"
	if !bytes.Contains(page, []byte("</body>")) {
		t.Fatalf("the page has no end: %.200q", page)
	}
	page = bytes.Replace(page, []byte("</body>"), []byte(script), 1)
	if err := os.WriteFile(filepath.Join(root, "page.html"), page, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := debroot.Inside(ctx, root, "/usr/lib/chromium/chromium-headless-shell",
		"--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--virtual-time-budget=5000", "--dump-dom", "file:///page.html")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("running the browser: %v\n%s", err, stderr.String())
	}
	m := seen.FindSubmatch(out)
	if m == nil {
		t.Fatalf("the script did not end: %d bytes of HTML, and\n%s", len(out), stderr.String())
	}
	return html.UnescapeString(string(m[1]))
}
