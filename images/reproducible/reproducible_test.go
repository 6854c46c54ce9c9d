// Package reproducible tests that the same sources give the same bytes in two places.
package reproducible

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/e2e/elsewhere"
	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	source         = flag.String("source", "", "a file in the top folder of the workspace")
	images, others repeated.Strings
	targets        repeated.Strings
)

const (
	// timeout is less than Bazel's, so that nothing is left.
	timeout = 150 * time.Minute
	// needs is how much disk the second build takes, in bytes.
	needs = 16 << 30
)

// joining are the mnemonics of actions whose outputs are too large for a shared cache: they only
// join what is there.
var joining = []string{"ImageArchive", "ImageLayout"}

// local are the keys of execution info that keep an action out of a remote cache.
var local = []string{"external", "local", "no-cache", "no-remote", "no-remote-cache"}

func TestMain(m *testing.M) {
	// rules_go's own handler would end the test at once, and leave the second build.
	signal.Reset(syscall.SIGTERM)
	flag.Var(&images, "image", "an image's description; repeat")
	flag.Var(&others, "file", "another output; repeat")
	flag.Var(&targets, "target", "a target to build again, which has some of the outputs; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// output is an output of both builds.
type output struct {
	path  string // below bazel-bin
	first string // the first build's
}

// TestReproducible builds everything that is shipped a second time, and compares it with what this
// test was given.
//
// The first build is the one that runs this test: so what it compares with is what people get from
// this Bazel, with all of its caches. The second build has none, but for the packages of upstreams,
// which rules_go compiled: it links, packs and compiles our own code anew.
func TestReproducible(t *testing.T) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the second build takes more than %s", timeout))
	defer cancel()

	outputs := inputs(t)
	workspace, err := filepath.EvalSymlinks(filepath.Join("..", *source))
	if err != nil {
		t.Fatal(err)
	}
	logs := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR")
	if logs == "" {
		logs = t.TempDir()
	}
	place, err := elsewhere.New(elsewhere.Options{Source: filepath.Dir(workspace), Name: "reproducible", Log: logs, Free: needs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		begin := time.Now()
		if err := place.Close(); err != nil {
			t.Errorf("removing the second build: %v", err)
		}
		t.Logf("removed in %.1f s", time.Since(begin).Seconds())
	}()
	t.Logf("a second build of %s, in %s; different there: %s", filepath.Dir(workspace), place.Workspace, strings.Join(place.Differs, ", "))

	cacheDir, err := elsewhere.Cache()
	if err != nil {
		t.Fatal(err)
	}
	cache := elsewhere.ServeUpstream(filepath.Join(cacheDir, "actions"))
	defer cache.Close()

	// No cache but this one can take part in the second build.
	begin := time.Now()
	err = place.Bazel(ctx, nil, "build", slices.Concat([]string{
		"--disk_cache=",
		"--remote_cache=" + cache.URL,
		"--remote_executor=",
		"--noremote_upload_local_results",
		"--noremote_cache_compression",
		"--output_groups=+config,+manifest,+blobs",
	}, targets)...)
	if err != nil {
		t.Fatalf("the second build failed: %v%s", err, changes(place))
	}
	served, withheld := cache.Served.Load(), cache.Withheld.Load()
	t.Logf("built again in %.0f s", time.Since(begin).Seconds())
	// The cache is bounded and shared with other builds, so a key that is not in it proves no
	// difference.
	t.Logf("keys of its actions: %d the same in both places (of them %d packages of upstreams, which were taken from the cache), %d not in the first one's cache",
		served+withheld, served, cache.Unknown.Load())
	if n := cache.Rejected.Load(); n > 0 {
		t.Errorf("the second build tried %d times to write to the cache", n)
	}
	checkShared(ctx, t, place)

	begin = time.Now()
	different := compareAll(ctx, t, place, outputs, logs)
	t.Logf("%d of %d outputs are the same, compared in %.0f s", len(outputs)-different, len(outputs), time.Since(begin).Seconds())
	if different > 0 {
		t.Errorf("%d outputs differ%s", different, changes(place))
	}
}

// inputs are the outputs of the first build.
func inputs(t *testing.T) []output {
	t.Helper()
	paths := map[string]bool{}
	for _, f := range others {
		paths[f] = true
	}
	for _, description := range images {
		paths[description] = true
		// Its paths stay relative to the root of the runfiles.
		files, err := image.ReadFiles(filepath.Join("..", description), "")
		if err != nil {
			t.Fatal(err)
		}
		paths[files.Config], paths[files.Manifest] = true, true
		for _, l := range files.Layers {
			paths[l.Metadata], paths[l.Blob] = true, true
		}
	}
	if len(paths) == 0 || len(targets) == 0 {
		t.Fatal("nothing to compare: this test runs under Bazel")
	}
	workspace, _, _ := strings.Cut(*source, "/")
	var outputs []output
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		below, ok := strings.CutPrefix(p, workspace+"/")
		if !ok {
			below = "external/" + p
		}
		outputs = append(outputs, output{path: below, first: filepath.Join("..", p)})
	}
	return outputs
}

// checkShared checks that all actions may be in a team's cache but those that join what is there
// already.
func checkShared(ctx context.Context, t *testing.T, place *elsewhere.Place) {
	t.Helper()
	var out bytes.Buffer
	expression := "deps(set(" + strings.Join(targets, " ") + "))"
	if err := place.Bazel(ctx, &out, "aquery", "--output=jsonproto", "--noinclude_artifacts", "--noinclude_commandline", expression); err != nil {
		t.Fatalf("listing all actions: %v", err)
	}
	var graph struct {
		Actions []struct {
			Mnemonic      string                 `json:"mnemonic"`
			TargetID      int                    `json:"targetId"`
			ExecutionInfo []struct{ Key string } `json:"executionInfo"`
		} `json:"actions"`
		Targets []struct {
			ID    int    `json:"id"`
			Label string `json:"label"`
		} `json:"targets"`
	}
	if err := json.Unmarshal(out.Bytes(), &graph); err != nil {
		t.Fatalf("listing all actions: %v", err)
	}
	labels := map[int]string{}
	for _, target := range graph.Targets {
		labels[target.ID] = target.Label
	}
	joined := 0
	for _, a := range graph.Actions {
		shared := true
		for _, info := range a.ExecutionInfo {
			if slices.Contains(local, info.Key) {
				shared = false
			}
		}
		switch {
		case slices.Contains(joining, a.Mnemonic):
			joined++
			if shared {
				t.Errorf("%s of %s would travel to a remote cache, and is as large as all layers together", a.Mnemonic, labels[a.TargetID])
			}
		case !shared:
			t.Errorf("%s of %s cannot be in a remote cache", a.Mnemonic, labels[a.TargetID])
		}
	}
	if joined == 0 || joined == len(graph.Actions) {
		t.Errorf("%d of %d actions join layers: the list is not the right one", joined, len(graph.Actions))
	}
	t.Logf("%d of %d actions can be in a remote cache; the others join layers", len(graph.Actions)-joined, len(graph.Actions))
}

// compareAll compares all outputs, and writes the first build's digests as sha256sum does. Of
// outputs that differ it keeps the second build's, beside the digests. It returns the number of
// those that differ.
func compareAll(ctx context.Context, t *testing.T, place *elsewhere.Place, outputs []output, logs string) int {
	t.Helper()
	type sums struct{ first, second string }
	all := make([]sums, len(outputs))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	second := func(o output) string { return filepath.Join(place.Workspace, "bazel-bin", o.path) }
	for i, o := range outputs {
		group.Go(func() (err error) {
			if all[i].first, err = digest(ctx, o.first); err != nil {
				return err
			}
			all[i].second, err = digest(ctx, second(o))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("comparing: %v", err)
	}
	var text strings.Builder
	different := 0
	for i, o := range outputs {
		fmt.Fprintf(&text, "%s  %s\n", all[i].first, o.path)
		if all[i].first == all[i].second {
			continue
		}
		different++
		first, err := filepath.Abs(o.first)
		if err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(logs, "different", o.path)
		where, err := elsewhere.Difference(first, second(o))
		if err := errors.Join(err, copyFile(kept, second(o))); err != nil {
			t.Errorf("%s: %v", o.path, err)
		}
		t.Errorf("%s: sha256:%s, not sha256:%s; first difference: %s\nFor all of them: diffoscope %s %s",
			o.path, all[i].second, all[i].first, where, first, kept)
	}
	if err := os.WriteFile(filepath.Join(logs, "digests.txt"), []byte(text.String()), 0o644); err != nil {
		t.Error(err)
	}
	t.Logf("digests (sha256sum's format, below bazel-bin):\n%s", text.String())
	return different
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

func digest(ctx context.Context, path string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", context.Cause(ctx)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// changes lists the sources that are no longer what was built.
func changes(place *elsewhere.Place) string {
	changed, err := place.Changed()
	switch {
	case err != nil:
		return "\nWhether sources have changed meanwhile is not known: " + err.Error()
	case changed != "":
		return "\nSources have changed since the test began, so try again:\n" + changed
	}
	return ""
}
