package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canMount skips a test where overlays cannot be mounted at all.
func canMount(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting overlays needs root")
	}
	root, lower := t.TempDir(), t.TempDir()
	if err := overlay(root, lower); err != nil {
		t.Skipf("overlays cannot be mounted here: %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// groups makes two groups with three images in them. The databases are not looked into.
func groups(t *testing.T, dir string) []string {
	t.Helper()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a+"/"+Snapshots+"/1/fs/etc/hostname", "one")
	for i := range 9 {
		for _, snapshot := range []string{a + "/" + Snapshots + "/1", b + "/" + Snapshots + "/3"} {
			write(t, fmt.Sprintf("%s/fs/usr/share/%d", snapshot, i), "not a small snapshot")
		}
	}
	write(t, a+"/"+blobs+"/aa", "{}")
	write(t, a+"/index.json", `{"manifests":[{"digest":"sha256:aa"}]}`)
	write(t, b+"/"+Snapshots+"/2/fs/bin/app", "two")
	write(t, b+"/"+Snapshots+"/3/fs/bin/app", "three")
	write(t, b+"/"+blobs+"/bb", "{}")
	write(t, b+"/"+blobs+"/cc", "{}")
	write(t, b+"/index.json", `{"manifests":[{"digest":"sha256:bb"},{"digest":"sha256:cc"},{"digest":"sha256:cc"}]}`)
	write(t, b+"/"+metadataDB, "metadata")
	write(t, b+"/"+snapshotsDB, "snapshots")
	got, err := Groups(dir)
	if err != nil || !slices.Equal(got, []string{a, b}) {
		t.Fatalf("groups are %q, %v", got, err)
	}
	return got
}

func TestLinked(t *testing.T) {
	canMount(t)
	root, stores := t.TempDir(), groups(t, t.TempDir())
	// As an interrupted start leaves it: no metadata.
	write(t, root+"/"+snapshotsDB, "half")
	write(t, root+"/"+Snapshots+"/3/fs/bin/half", "half")
	r, err := Seed(t.Context(), root, stores)
	if err != nil {
		t.Fatal(err)
	}
	if r.How != Linked || r.Images != 3 || r.Why != "" || r.Start.IsZero() {
		t.Errorf("got %+v", r)
	}
	if got := r.String(); got != "linked 3 images" {
		t.Errorf("it says %q", got)
	}
	for name, want := range map[string]string{
		Snapshots + "/1": stores[0] + "/" + Snapshots + "/1",
		Snapshots + "/3": stores[1] + "/" + Snapshots + "/3",
		blobs + "/aa":    stores[0] + "/" + blobs + "/aa",
		blobs + "/cc":    stores[1] + "/" + blobs + "/cc",
	} {
		if got, err := os.Readlink(filepath.Join(root, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, want %q, %v", name, got, want, err)
		}
	}
	for name, want := range map[string]string{metadataDB: "metadata", snapshotsDB: "snapshots", Snapshots + "/3/fs/bin/app": "three"} {
		if got := read(t, filepath.Join(root, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// The small one is a copy.
	if info, err := os.Lstat(filepath.Join(root, Snapshots, "2")); err != nil || !info.IsDir() || read(t, filepath.Join(root, Snapshots, "2/fs/bin/app")) != "two" {
		t.Errorf("the small snapshot is %v, %v, want a copy", info, err)
	}
	if info, err := os.Lstat(filepath.Join(root, metadataDB)); err != nil || info.Mode() != 0o600 {
		t.Errorf("the database is %v, %v, want a file that only its owner can read and write", info.Mode(), err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 4 {
		t.Errorf("the directory has %v, %v, want containerd's three and the marker", entries, err)
	}

	// A restart, after an image was removed and the databases were written to.
	if err := os.Remove(root + "/" + Snapshots + "/1"); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/"+metadataDB, "changed by containerd")
	if r, err = Seed(t.Context(), root, stores); err != nil || r.How != Kept || r.Images != 3 {
		t.Errorf("again: %+v, %v", r, err)
	}
	if got := read(t, root+"/"+metadataDB); got != "changed by containerd" {
		t.Errorf("the database is %q: it was replaced", got)
	}
	// The machine lost its power before the database was on the disk.
	write(t, root+"/"+snapshotsDB, "")
	if r, err = Seed(t.Context(), root, stores); err != nil || r.How != Linked || read(t, root+"/"+snapshotsDB) != "snapshots" {
		t.Errorf("after a power failure: %+v, %v", r, err)
	}
	// A part is lost.
	if err := os.RemoveAll(stores[1] + "/" + Snapshots + "/3/fs"); err != nil {
		t.Fatal(err)
	}
	if _, err := Seed(t.Context(), root, stores); err != nil {
		t.Errorf("what a tree contains is not looked at: %v", err)
	}
	lost := stores[1] + "/" + blobs + "/cc"
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", lost); err != nil {
		t.Fatal(err)
	}
	if _, err := Seed(t.Context(), root, stores); err == nil || !strings.Contains(err.Error(), "no longer there") || !strings.Contains(err.Error(), blobs+"/cc") {
		t.Errorf("a link that leads nowhere: %v", err)
	}
	// Another version.
	write(t, stores[0]+"/index.json", `{"manifests":[{"digest":"sha256:dd"}]}`)
	if _, err := Seed(t.Context(), root, stores); err == nil || !strings.Contains(err.Error(), "another version: give the container a new volume") || !strings.Contains(err.Error(), root) {
		t.Errorf("other images: %v", err)
	}
}

// mountOverlay mounts an overlay on a lower directory until the end of the test.
func mountOverlay(t *testing.T, lower string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Error(err)
		}
	})
	return merged
}

// What a root directory was seeded from is what the groups say of themselves.
func TestIdentity(t *testing.T) {
	canMount(t)
	root, stores := t.TempDir(), groups(t, t.TempDir())
	id, unlinked, err := Identity(root, stores)
	if err != nil || unlinked != nil || id == "" {
		t.Fatalf("got %q, %v, %v", id, unlinked, err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := Seed(t.Context(), root, stores); err != nil {
		t.Fatal(err)
	}
	if got, linked, err := Seeded(root); err != nil || got != id || !linked {
		t.Errorf("seeded from %q (linked: %v), want %q; %v", got, linked, id, err)
	}
	if other, _, err := Identity(root, stores[:1]); err != nil || other == id {
		t.Errorf("another group has the identity %q, too; %v", other, err)
	}
	if _, _, err := Seeded(t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("an empty directory: %v", err)
	}
	// Where the groups lie on an overlay on an overlay.
	if _, unlinked, err := Identity(root, groups(t, mountOverlay(t, mountOverlay(t, t.TempDir())))); err != nil || unlinked == nil {
		t.Errorf("on two overlays: %v, %v", unlinked, err)
	}
}

// Below two overlays there is no third one: the trees are copied, with all that is in them.
func TestCopied(t *testing.T) {
	canMount(t)
	dir := t.TempDir()
	groups(t, dir)
	tree := filepath.Join(dir, "b", Snapshots, "2", "fs")
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	app := filepath.Join(tree, "bin/app")
	for _, err := range []error{
		os.Link(app, filepath.Join(tree, "bin/again")),
		os.Symlink("/no/such", filepath.Join(tree, "link")),
		unix.Mknod(filepath.Join(tree, "device"), unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))),
		os.Lchown(app, 123, 456),
		unix.Chmod(app, 0o4711),
		unix.Setxattr(app, "user.kind", []byte("tested"), 0),
		// cap_net_raw=ep
		unix.Setxattr(app, "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
		os.Chtimes(app, old, old),
		os.Chtimes(filepath.Join(tree, "bin"), old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	deep := mountOverlay(t, mountOverlay(t, dir))
	stores, err := Groups(deep)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	r, err := Seed(t.Context(), root, stores)
	if err != nil {
		t.Fatal(err)
	}
	if r.How != Copied || r.Images != 3 || !strings.Contains(r.String(), "copied 3 images") || !strings.Contains(r.String(), "mounting an overlay of "+deep) {
		t.Errorf("it says %q", r)
	}
	var app2, again, device, bin unix.Stat_t
	copied := filepath.Join(root, Snapshots, "2", "fs")
	for path, st := range map[string]*unix.Stat_t{"bin/app": &app2, "bin/again": &again, "device": &device, "bin": &bin} {
		if err := unix.Lstat(filepath.Join(copied, path), st); err != nil {
			t.Fatal(err)
		}
	}
	if app2.Uid != 123 || app2.Gid != 456 || app2.Mode != unix.S_IFREG|0o4711 || app2.Mtim.Sec != old.Unix() || app2.Ino != again.Ino {
		t.Errorf("owner, mode, time or link of a file is lost: %+v, %+v", app2, again)
	}
	if bin.Mtim.Sec != old.Unix() {
		t.Errorf("the time of a directory is %v", bin.Mtim)
	}
	if device.Mode != unix.S_IFCHR|0o640 || device.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("the device is %+v", device)
	}
	for _, name := range []string{"user.kind", "security.capability"} {
		value := make([]byte, 100)
		if n, err := unix.Getxattr(filepath.Join(copied, "bin/app"), name, value); err != nil || n == 0 {
			t.Errorf("attribute %s: %v", name, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(copied, "link")); err != nil || to != "/no/such" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	// It does not need the groups' trees any more.
	if err := overlay(t.TempDir(), copied); err != nil {
		t.Error(err)
	}
	if r, err := Seed(t.Context(), root, stores); err != nil || r.How != Kept {
		t.Errorf("again: %v, %v", r, err)
	}
}

// An interrupted copy leaves nothing that looks complete.
func TestInterrupted(t *testing.T) {
	canMount(t)
	dir := t.TempDir()
	groups(t, dir)
	stores, err := Groups(mountOverlay(t, mountOverlay(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Seed(ctx, root, stores); err == nil || !strings.Contains(err.Error(), "copying") {
		t.Errorf("got %v", err)
	}
	if r, err := Seed(t.Context(), root, stores); err != nil || r.How != Copied {
		t.Errorf("again: %v, %v", r, err)
	}
}

// A directory that itself lies on two overlays can hold no container.
func TestUnusable(t *testing.T) {
	canMount(t)
	root := mountOverlay(t, mountOverlay(t, t.TempDir()))
	_, err := Seed(t.Context(), root, groups(t, t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "containers cannot have their files there") || !strings.Contains(err.Error(), "ext4, xfs or btrfs") {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left behind", e.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestBadGroups(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(stores []string)
		want   string
	}{
		{"no database", func(s []string) { os.Remove(s[1] + "/" + metadataDB) }, metadataDB + ", and 0 do"},
		{"two databases", func(s []string) { write(t, s[0]+"/"+snapshotsDB, "") }, snapshotsDB + ", and 2 do"},
		{"damaged index", func(s []string) { write(t, s[0]+"/index.json", "{") }, "index.json: unexpected end"},
		{"index without digests", func(s []string) { write(t, s[0]+"/index.json", `{"manifests":[{}]}`) }, "without a digest"},
		{"empty group", func(s []string) { os.RemoveAll(s[0]); os.Mkdir(s[0], 0o755) }, "has no images"},
		{"a file", func(s []string) { os.RemoveAll(s[0]); write(t, s[0], "") }, "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root, stores := t.TempDir(), groups(t, t.TempDir())
			test.damage(stores)
			if _, err := Seed(t.Context(), root, stores); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if entries, _ := os.ReadDir(root); len(entries) > 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
	for name, dir := range map[string]string{"none": filepath.Join(t.TempDir(), "none"), "empty": t.TempDir()} {
		if got, err := Groups(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestResultFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "images.json")
	want := Result{Images: 1, How: Copied, Why: "it is so", Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: 1234 * time.Millisecond}
	if _, err := Read(path); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := want.String(); got != "copied 1 image, since they cannot be shared: it is so" {
		t.Errorf("it says %q", got)
	}
	write(t, path, "{")
	if _, err := Read(path); err == nil {
		t.Error("no error for a damaged file")
	}
}

func FuzzCount(f *testing.F) {
	f.Add("sha256:aa sha256:bb sha256:aa")
	f.Fuzz(func(t *testing.T, text string) {
		manifests := []map[string]string{}
		digests := strings.Fields(strings.ToValidUTF8(text, ""))
		for _, d := range digests {
			manifests = append(manifests, map[string]string{"digest": d})
		}
		data, err := json.Marshal(map[string]any{"manifests": manifests})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(digests)
		if n, err := count(data); err != nil || n != len(slices.Compact(digests)) {
			t.Errorf("%d images in %s, %v", n, data, err)
		}
	})
}
