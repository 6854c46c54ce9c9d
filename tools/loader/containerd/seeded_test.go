package containerd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/cluster/store"
)

// TestSeeded gives one containerd images that a build has unpacked, and another the same images as
// an archive: they must have the same, and treat it in the same way.
func TestSeeded(t *testing.T) {
	bin := binary(t, "STORE_BINARY", "store")
	ctx := context.Background()
	dir := t.TempDir()
	base := layer(t, map[string]string{"etc/": "", "etc/base": "base"})
	one := image(t, base, layer(t, map[string]string{"bin/": "", "bin/app": strings.Repeat("one", 50_000)}))
	two := image(t, base, layer(t, map[string]string{"bin/": "", "bin/app": "two"}))
	pause := image(t, layer(t, map[string]string{"pause": "pause"}))
	below := save(t, map[string]v1.Image{"registry.k8s.io/one:1": one})
	above := save(t, map[string]v1.Image{"registry.k8s.io/two:1": two, "registry.k8s.io/pause:3": pause})

	stores := filepath.Join(dir, "store")
	for name, args := range map[string][]string{
		"a": {below},
		"b": {"--databases", "--below", below, above},
	} {
		blob := filepath.Join(dir, name+".tar")
		args = append([]string{"images", "--path", filepath.Join(stores, name), "--under", dir, "--namespace", namespace, "--compression", "none", "--blob", blob, "--metadata", blob + ".json"}, args...)
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			t.Fatalf("store: %v: %s", err, out)
		}
		if out, err := exec.Command("tar", "--extract", "--file", blob, "--directory", "/", "--preserve-permissions").CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
	}
	groups, err := store.Groups(stores)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	seed := func(want store.How) {
		t.Helper()
		r, err := store.Seed(ctx, root, groups)
		if err != nil || r.How != want || r.Images != 3 {
			t.Fatalf("got %+v, %v, want 3 images %s", r, err, want)
		}
	}
	seed(store.Linked)
	before := tree(t, stores)
	d := startOn(t, root, 0)
	d.collect(t)

	loaded := start(t, 0)
	if out, err := loaded.load(t, ctx, Options{}, below, above); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	loaded.collect(t)
	// The kubelet may remove images that were loaded, but not those that the node came with:
	// nothing could bring them back.
	const pinned = " io.cri-containerd.pinned:pinned"
	got, want := d.state(t), strings.ReplaceAll(loaded.state(t), pinned, "")
	if images, all := strings.Count(got, pinned), strings.Count(got, "image "); images != all || images != 6 {
		t.Errorf("%d of %d images are pinned, want 6 of 6:\n%s", images, all, got)
	}
	if got := strings.ReplaceAll(got, pinned, ""); got != want {
		t.Errorf("unpacked by the build:\n%s\nloaded:\n%s", got, want)
	}
	contents := func(d *daemon) {
		t.Helper()
		for ref, want := range map[string]string{"registry.k8s.io/one:1": strings.Repeat("one", 50_000), "registry.k8s.io/two:1": "two"} {
			if got, err := d.file(t, ref, "bin/app"); err != nil || string(got) != want {
				t.Errorf("%s: %q, %v", ref, got, err)
			}
			if got, err := d.file(t, ref, "etc/base"); err != nil || string(got) != "base" {
				t.Errorf("%s: %q, %v", ref, got, err)
			}
		}
	}
	contents(d)
	if out, err := d.load(t, ctx, Options{}, below, above); err != nil || strings.Count(out, "already there") != 3 {
		t.Errorf("loading what is there: %v\n%s", err, out)
	}

	// One image goes. Its layer in common with the other stays.
	id, _ := one.ConfigName()
	for _, name := range []string{"registry.k8s.io/one:1", id.String()} {
		if err := d.client.ImageService().Delete(d.ctx, name, images.SynchronousDelete()); err != nil {
			t.Fatal(err)
		}
	}
	d.collect(t)
	if links := len(dirEntries(t, filepath.Join(root, store.Snapshots))); links != 3 {
		t.Errorf("%d snapshots are left, want those of the base, two and pause", links)
	}
	// A restart, in between.
	d.stop()
	seed(store.Kept)
	d = startOn(t, root, 0)
	d.collect(t)
	if got, err := d.file(t, "registry.k8s.io/two:1", "etc/base"); err != nil || string(got) != "base" {
		t.Errorf("%q, %v", got, err)
	}
	if out, err := d.load(t, ctx, Options{}, below, above); err != nil || strings.Count(out, "already there") != 2 {
		t.Errorf("loading what was removed: %v\n%s", err, out)
	}
	contents(d)

	// All go.
	d.removeAll(t)
	if rest := dirEntries(t, filepath.Join(root, store.Snapshots)); len(rest) > 0 {
		t.Errorf("left behind: %v", rest)
	}
	if after := tree(t, stores); after != before {
		t.Errorf("the shared store was:\n%s\nand is:\n%s", before, after)
	}
}

func dirEntries(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// tree lists the files below a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%P %s %m %U %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
