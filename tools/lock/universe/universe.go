// Package universe writes the lock of a universe: a go.mod that names, version for version, what
// upstream's own go.mod names, and the go.sum that goes with it.
//
// Upstreams that develop several modules in one repository replace them by local directories. Those
// replacements are turned into the published versions of the same modules.
package universe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// Lock writes dir/go.mod and dir/go.sum; dir/programs.go imports the programs that the universe
// builds. An upstream is MODULE@VERSION, or MODULE=FETCHED@VERSION where the module is only
// published under another path; without any, those of the present lock are locked again. It needs
// the go command.
func Lock(ctx context.Context, dir string, upstreams []string) error {
	modFile := filepath.Join(dir, "go.mod")
	if len(upstreams) == 0 {
		var err error
		if upstreams, err = lockedUpstreams(modFile); err != nil {
			return err
		}
	}
	requires := map[string]string{}
	replaces := map[string]string{}
	goVersion := "1.0"
	var comments []string
	for _, upstream := range upstreams {
		path, fetched, version, err := parseUpstream(upstream)
		if err != nil {
			return err
		}
		if fetched != path {
			replaces[path] = fetched + " " + version
		}
		requires[path] = version
		mod, published, err := upstreamMod(ctx, fetched, version)
		if err != nil {
			return err
		}
		comments = append(comments, upstream+" "+published)
		if mod.Go != nil && semver.Compare("v"+mod.Go.Version, "v"+goVersion) > 0 {
			goVersion = mod.Go.Version
		}
		local := map[string]bool{}
		for _, r := range mod.Replace {
			if r.New.Version != "" {
				replaces[r.Old.Path] = r.New.Path + " " + r.New.Version
				continue
			}
			local[r.Old.Path] = true
		}
		for _, r := range mod.Require {
			r, v := r.Mod, r.Mod.Version
			if local[r.Path] && v == "v0.0.0" {
				// A Kubernetes staging module: released as v0.X.Y beside v1.X.Y.
				v = "v0" + strings.TrimPrefix(version, "v1")
			}
			// Upstreams with several modules: the highest version counts, as in minimal version
			// selection.
			if semver.Compare(v, requires[r.Path]) > 0 {
				requires[r.Path] = v
			}
		}
	}
	if err := writeMod(modFile, goVersion, comments, requires, replaces); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "go.sum")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// -e: a program is not importable, but its name is all that is asked for here.
	out, err := run(ctx, dir, "go", "list", "-e", "-tags", "programs", "-f", `{{join .Imports "\n"}}`, ".")
	if err != nil {
		return err
	}
	// Adds what only the programs need (ginkgo's command, say) and fails where a program does not
	// resolve.
	if _, err := run(ctx, dir, "go", append([]string{"list", "-deps", "-f", "{{.ImportPath}}"}, strings.Fields(string(out))...)...); err != nil {
		return err
	}
	return downloadAll(ctx, dir)
}

const upstreamComment = "// upstream: "

func lockedUpstreams(modFile string) ([]string, error) {
	data, err := os.ReadFile(modFile)
	if err != nil {
		return nil, fmt.Errorf("nothing is locked yet, name MODULE@VERSION: %w", err)
	}
	var out []string
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, upstreamComment); ok {
			upstream, _, _ := strings.Cut(rest, " ")
			out = append(out, upstream)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no %q line, name MODULE@VERSION", modFile, upstreamComment)
	}
	return out, nil
}

func parseUpstream(s string) (path, fetched, version string, err error) {
	name, version, ok := strings.Cut(s, "@")
	if !ok || name == "" || version == "" {
		return "", "", "", fmt.Errorf("%q is not MODULE@VERSION", s)
	}
	path, fetched, ok = strings.Cut(name, "=")
	if !ok {
		fetched = path
	}
	return path, fetched, version, nil
}

// upstreamMod returns a module's own go.mod and the time of its version.
func upstreamMod(ctx context.Context, path, version string) (*modfile.File, string, error) {
	out, err := run(ctx, "", "go", "mod", "download", "-json", path+"@"+version)
	if err != nil {
		return nil, "", err
	}
	var info struct{ GoMod, Info string }
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, "", fmt.Errorf("reading go mod download's answer for %s: %w", path, err)
	}
	data, err := os.ReadFile(info.Info)
	if err != nil {
		return nil, "", err
	}
	var published struct{ Time string }
	if err := json.Unmarshal(data, &published); err != nil {
		return nil, "", fmt.Errorf("reading %s: %w", info.Info, err)
	}
	mod, err := readMod(info.GoMod)
	return mod, published.Time, err
}

func readMod(file string) (*modfile.File, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(file, data, nil)
}

func writeMod(file, goVersion string, upstreams []string, requires, replaces map[string]string) error {
	var b strings.Builder
	fmt.Fprintln(&b, "// Written by scripts/lock; do not edit.")
	for _, u := range upstreams {
		fmt.Fprintln(&b, upstreamComment+u)
	}
	fmt.Fprintf(&b, "module universe.invalid/%s\n\ngo %s\n\nrequire (\n", filepath.Base(filepath.Dir(file)), goVersion)
	for _, path := range keys(requires) {
		fmt.Fprintf(&b, "\t%s %s\n", path, requires[path])
	}
	fmt.Fprint(&b, ")\n")
	if len(replaces) > 0 {
		fmt.Fprint(&b, "\nreplace (\n")
		for _, path := range keys(replaces) {
			fmt.Fprintf(&b, "\t%s => %s\n", path, replaces[path])
		}
		fmt.Fprint(&b, ")\n")
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// downloadAll fetches every module of the lock once, so that go.sum holds the hash of each.
func downloadAll(ctx context.Context, dir string) error {
	mod, err := readMod(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	args := []string{"mod", "download"}
	for _, r := range mod.Require {
		args = append(args, r.Mod.Path)
	}
	_, err = run(ctx, dir, "go", args...)
	return err
}

func run(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		what := name + " " + strings.Join(args, " ")
		if len(what) > 120 {
			what = what[:120] + "…"
		}
		return nil, fmt.Errorf("running %s: %w\n%s", what, err, lastLines(stderr.String(), 20))
	}
	return out, nil
}

func lastLines(s string, n int) string {
	var lines []string
	sc := bufio.NewScanner(strings.NewReader(s))
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

func keys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
