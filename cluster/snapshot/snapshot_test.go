package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// still is a Hold where nothing has to be stopped.
func still(ctx context.Context) (context.Context, func() error, error) {
	return ctx, func() error { return nil }, nil
}

var manifest = Manifest{Version: "1.2.3", NodeImage: "dind-node:v1", Store: "abc", Linked: true}

var fit = Fit{Version: "1.2.3", Store: "abc"}

// tree makes what a volume has: files, holes, links, an overlay's marks, devices.
func tree(t *testing.T, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string, data []byte, mode fs.FileMode) {
		t.Helper()
		path = filepath.Join(root, path)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, data, 0o600))
		must(os.Chmod(path, mode))
	}
	write("etcd/member/snap/db", bytes.Repeat([]byte("0123456789abcdef"), 40<<10), 0o600)
	write("etcd/member/wal/0.wal", append(bytes.Repeat([]byte("log"), 5000), make([]byte, 8<<20)...), 0o600)
	write("empty", nil, 0o644)
	write("fs/bin/su", []byte("program"), 0o4755)
	write("fs/data/part", bytes.Repeat([]byte{7}, 5000), 0o640)
	must(os.Lchown(filepath.Join(root, "fs/data/part"), 1000, 2000))
	must(os.Link(filepath.Join(root, "fs/data/part"), filepath.Join(root, "fs/data/same")))
	must(os.Symlink("../nowhere", filepath.Join(root, "fs/link")))
	must(os.Symlink("/etc/passwd", filepath.Join(root, "fs/passwd")))
	must(unix.Mkfifo(filepath.Join(root, "fs/pipe"), 0o622))
	must(os.Mkdir(filepath.Join(root, "fs/opaque"), 0o1777))
	must(os.Chmod(filepath.Join(root, "fs/opaque"), 0o777|fs.ModeSticky))
	if os.Getuid() == 0 {
		must(unix.Mknod(filepath.Join(root, "fs/removed"), unix.S_IFCHR, 0))
		must(unix.Lsetxattr(filepath.Join(root, "fs/opaque"), "trusted.overlay.opaque", []byte("y"), 0))
	}
	must(unix.Lsetxattr(filepath.Join(root, "fs/bin/su"), "user.note", []byte("a\x00b"), 0))
	past := time.Unix(1700000000, 123456789)
	must(os.Chtimes(filepath.Join(root, "fs/data/part"), past, past))
	must(os.Chtimes(filepath.Join(root, "fs/data"), past, past))
}

// listing describes all that Save keeps of a tree.
func listing(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	links := map[uint64]string{}
	if err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		attributes, err := xattrs(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s %o %d:%d %d %d.%d %q", name, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec, attributes)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			to, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %s", to)
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if first := links[st.Ino]; first != "" {
				fmt.Fprintf(&out, " = %s", first)
			}
			links[st.Ino] = name
			fmt.Fprintf(&out, " %d %x", len(data), sum(data))
		}
		out.WriteString("\n")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func sum(data []byte) (n uint64) {
	for _, b := range data {
		n = n*1099511628211 + uint64(b) + 1
	}
	return n
}

// save makes a snapshot of a tree, and returns the file.
func save(t *testing.T, s Source) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.snapshot")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s.Hold == nil {
		s.Hold = still
	}
	if _, err := s.Save(t.Context(), manifest, f); err != nil {
		t.Fatal(err)
	}
	return path
}

func volume(t *testing.T) Volume {
	root := t.TempDir()
	return Volume{Root: root, Restored: filepath.Join(root, "state/snapshot.json"), Restoring: filepath.Join(root, "restoring"), BootID: "boot 1"}
}

// restore does what an entrypoint does.
func restore(t *testing.T, v Volume, path string) error {
	t.Helper()
	f, _, err := v.Find(path, func() (Fit, error) { return fit, nil })
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	return v.Restore(t.Context(), f, nil)
}

// left is the listing of a volume, without what restoring adds.
func left(t *testing.T, v Volume) string {
	t.Helper()
	return listing(t, v.Root)
}

func TestRoundTrip(t *testing.T) {
	source := t.TempDir()
	tree(t, source)
	if err := os.MkdirAll(filepath.Join(source, "tmp/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := listing(t, source)
	path := save(t, Source{Root: source, Exclude: func(path string) bool { return path == "tmp" }})
	if after := listing(t, source); after != before {
		t.Errorf("the source changed:\n%s\nwas\n%s", after, before)
	}
	var want []string
	for line := range strings.Lines(before) {
		if !strings.HasPrefix(line, "tmp") {
			want = append(want, line)
		}
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	m := f.Manifest
	if m.Files != 5 || m.Bytes < 8<<20 || m.ID == "" || m.Version != manifest.Version || time.Since(m.Created) > time.Minute {
		t.Errorf("manifest %+v", m)
	}
	to := t.TempDir()
	if err := f.Extract(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, to); got != strings.Join(want, "") {
		t.Errorf("restored:\n%s\nwant\n%s", got, strings.Join(want, ""))
	}
	// The room in etcd's log takes none.
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(to, "etcd/member/wal/0.wal"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the log takes %d bytes on the disk: %v", st.Blocks*512, err)
	}
}

// What is there several times takes the room of one.
func TestLike(t *testing.T) {
	source := t.TempDir()
	data := make([]byte, 300<<10)
	for i := range data {
		data[i] = byte(sum([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) >> 3)
	}
	other := bytes.Clone(data)
	other[1000]++
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(source, name), data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("other", other)
	write("small", data[:100])
	write("small too", data[:100])
	write("first", data)
	one := save(t, Source{Root: source})
	for n := range 8 {
		write(fmt.Sprint("like ", n), data)
	}
	many := save(t, Source{Root: source})
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if a, b := size(one), size(many); b > a+20<<10 {
		t.Errorf("it has %d bytes, and with all copies %d", a, b)
	}
	f, err := Open(many)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	to := t.TempDir()
	if err := f.Extract(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if got, want := listing(t, to), listing(t, source); got != want {
		t.Errorf("restored:\n%s\nwant\n%s", got, want)
	}
}

// Files change between the early copy and the moment when everything stands still.
func TestChangesMeanwhile(t *testing.T) {
	source := t.TempDir()
	big := func(b byte) []byte { return bytes.Repeat([]byte{b}, large) }
	// Some have the content of others, those the content that they have at first.
	for name, b := range map[string]byte{
		"same": 'a', "written": 'b', "removed": 'c', "replaced": 'd', "renamed": 'e', "grown": 'f',
		"like same": 'a', "like written": 'b', "like removed": 'c', "like both": 'c',
	} {
		if err := os.WriteFile(filepath.Join(source, name), big(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// So that they count as settled.
	time.Sleep(settled + 100*time.Millisecond)
	path := save(t, Source{Root: source, Hold: func(ctx context.Context) (context.Context, func() error, error) {
		in := func(name string) string { return filepath.Join(source, name) }
		f, err := os.OpenFile(in("written"), os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("b"), 100)
			f.Close()
		}
		grown, gerr := os.OpenFile(in("grown"), os.O_APPEND|os.O_WRONLY, 0)
		if gerr == nil {
			_, gerr = grown.Write([]byte("more"))
			grown.Close()
		}
		return ctx, func() error { return nil }, errors.Join(err, gerr,
			os.Remove(in("removed")),
			os.WriteFile(in("replaced.new"), big('c'), 0o600), os.Rename(in("replaced.new"), in("replaced")),
			os.Rename(in("renamed"), in("other")),
			os.WriteFile(in("new"), big('d'), 0o600))
	}})
	want := listing(t, source)
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, path := range []string{"grown", "removed", "renamed", "replaced", "written"} {
		if !slices.Contains(f.Manifest.Stale, path) {
			t.Errorf("stale are %q, and not %q: was it not copied early?", f.Manifest.Stale, path)
		}
	}
	to := t.TempDir()
	if err := f.Extract(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if got := listing(t, to); got != want {
		t.Errorf("restored:\n%s\nwant\n%s", got, want)
	}
}

// Whatever length of a snapshot there is, and whichever byte is another one: the volume stays as it
// was, unless all is as it should be.
func TestDamaged(t *testing.T) {
	source := t.TempDir()
	tree(t, source)
	path := save(t, Source{Root: source})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	last := f.Manifest.Parts[len(f.Manifest.Parts)-1].Size
	// Behind the last part there are only zeros, which nobody needs.
	end := len(whole) - 1024 - int((512-last%512)%512)
	refuse := func(what string, data []byte) {
		t.Helper()
		cut := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(cut, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v := volume(t)
		if err := restore(t, v, cut); err == nil {
			t.Errorf("%s: no error", what)
		}
		if has := left(t, v); has != "" {
			t.Errorf("%s: the volume has\n%s", what, has)
		}
	}
	step := max(1, end/150)
	for n := 0; n < end; n += step {
		refuse(fmt.Sprintf("cut off after %d of %d bytes", n, len(whole)), whole[:n])
	}
	refuse("cut off by one byte", whole[:end-1])
	for at := 600; at < end; at += step {
		other := bytes.Clone(whole)
		other[at] ^= 0x20
		v, file := volume(t), filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(file, other, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := restore(t, v, file); err != nil {
			if has := left(t, v); has != "" {
				t.Errorf("byte %d: the volume has\n%s", at, has)
			}
		} else if begin := bytes.Index(whole, []byte("0.tar.zst\x00")); at >= begin {
			// In the manifest a byte may be of no account, in a header padding, in a part none.
			header := tarPadding(whole, at)
			if !header {
				t.Errorf("byte %d of %d is another one, and nobody noticed", at, len(whole))
			}
		}
	}
	v := volume(t)
	if err := restore(t, v, path); err != nil {
		t.Error(err)
	}
}

// tarPadding reports whether a byte of a tar archive is no part of a member's content.
func tarPadding(archive []byte, at int) bool {
	in := bytes.NewReader(archive)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err != nil {
			return true
		}
		begin := len(archive) - in.Len()
		if at >= begin && at < begin+int(h.Size) {
			return false
		}
	}
}

// edit returns a snapshot with another manifest.
func edit(t *testing.T, path string, change func(map[string]any)) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == manifestName {
			var m map[string]any
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			if data, err = json.Marshal(m); err != nil {
				t.Fatal(err)
			}
			h.Size = int64(len(data))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	edited := filepath.Join(t.TempDir(), "edited")
	if err := os.WriteFile(edited, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return edited
}

func TestRefused(t *testing.T) {
	source := t.TempDir()
	tree(t, source)
	path := save(t, Source{Root: source})
	file := func(data string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	set := func(key string, value any) string {
		return edit(t, path, func(m map[string]any) { m[key] = value })
	}
	for name, c := range map[string]struct{ path, want string }{
		"another format":       {set("format", 2), "it has version 2 of the format"},
		"another architecture": {set("architecture", "vax"), "it was made on another architecture, vax"},
		"another image":        {set("store", "def"), "made with another image (dind-cluster 1.2.3, dind-node:v1), and this one is of dind-cluster 1.2.3"},
		"another part":         {set("parts", []any{map[string]any{"name": "0.tar.zst", "size": 1}}), "it is damaged: it has"},
		"no room":              {set("disk", 1<<60), ErrNoRoom.Error()},
		"no parts":             {set("parts", nil), "lacks the ID, the node image or the parts"},
		"empty":                {file(""), "it is empty"},
		"something else":       {file(strings.Repeat("x", 2000)), "it is not a snapshot"},
		"a directory":          {t.TempDir(), "is a directory, as Docker makes one"},
		"no snapshot":          {filepath.Join(t.TempDir(), "none"), ""},
	} {
		v := volume(t)
		err := restore(t, v, c.path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if has := left(t, v); has != "" {
			t.Errorf("%s: the volume has\n%s", name, has)
		}
	}
	v := volume(t)
	f, _, err := v.Find(path, func() (Fit, error) { return Fit{Store: "abc", Unlinked: errors.New("no overlays here")}, nil })
	if err == nil || f != nil || !strings.Contains(err.Error(), "no overlays here") {
		t.Errorf("where files cannot be shared: %v", err)
	}
}

// A path that leads out of the volume, or through a symbolic link, is refused.
func TestOutside(t *testing.T) {
	for name, member := range map[string]*tar.Header{
		"above":    {Typeflag: tar.TypeReg, Name: "../x", Mode: 0o600},
		"absolute": {Typeflag: tar.TypeReg, Name: "/tmp/x", Mode: 0o600},
		"link":     {Typeflag: tar.TypeLink, Name: "x", Linkname: "../../x"},
		"through":  {Typeflag: tar.TypeReg, Name: "out/x", Mode: 0o600},
	} {
		source, to, other := t.TempDir(), t.TempDir(), t.TempDir()
		s := Source{Root: source}
		tree, err1 := s.newPart()
		file, err2 := s.newPart()
		if err := errors.Join(err1, err2, tree.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: other}), file.tar.WriteHeader(member)); err != nil {
			t.Fatal(err)
		}
		var f File
		for _, p := range []*part{tree, file} {
			described, err := p.finish()
			if err != nil {
				t.Fatal(err)
			}
			defer p.spool.Close()
			f.Manifest.Parts = append(f.Manifest.Parts, described)
			f.parts = append(f.parts, io.NewSectionReader(p.spool, 0, described.Size))
		}
		if err := f.Extract(t.Context(), to); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left := listing(t, other); left != "" {
			t.Errorf("%s: written outside:\n%s", name, left)
		}
	}
}

func TestVolume(t *testing.T) {
	source := t.TempDir()
	tree(t, source)
	one, two := save(t, Source{Root: source}), save(t, Source{Root: source})

	v := volume(t)
	if err := os.Mkdir(filepath.Join(v.Root, lostAndFound), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := restore(t, v, one); err != nil {
		t.Fatal(err)
	}
	before := left(t, v)
	// A start again, with the snapshot still there, damaged or gone.
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.WriteFile(damaged, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{one, damaged, filepath.Join(t.TempDir(), "gone")} {
		f, from, err := v.Find(path, nil)
		if f != nil || err != nil || from == nil || from.Version != manifest.Version {
			t.Errorf("a second start with %s: %v, %+v, %v", path, f, from, err)
		}
	}
	// Another one.
	if err := restore(t, v, two); err == nil || !strings.Contains(err.Error(), "is in use already") {
		t.Errorf("another snapshot: %v", err)
	}
	if after := left(t, v); after != before {
		t.Errorf("the volume has\n%s\nhad\n%s", after, before)
	}
	// The machine went down before all was on the disk.
	v.BootID = "boot 2"
	if err := os.WriteFile(filepath.Join(v.Root, "empty"), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := restore(t, v, filepath.Join(t.TempDir(), "gone")); err == nil || !strings.Contains(err.Error(), "has a part of a cluster") {
		t.Errorf("without the snapshot: %v", err)
	}
	if err := restore(t, v, one); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(v.Root, "empty")); err != nil || len(data) > 0 {
		t.Errorf("a file is %q, %v", data, err)
	}
	// All is on the disk.
	if err := v.Keep(); err != nil {
		t.Fatal(err)
	}
	v.BootID = "boot 3"
	if f, from, err := v.Find(one, nil); f != nil || from == nil || err != nil {
		t.Errorf("after the machine's next start: %v, %v, %v", f, from, err)
	}

	// A volume that has something else.
	v = volume(t)
	if err := os.WriteFile(filepath.Join(v.Root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := restore(t, v, one); err == nil || !strings.Contains(err.Error(), "is in use already (file)") {
		t.Errorf("a volume in use: %v", err)
	}
	if f, from, err := v.Find(filepath.Join(t.TempDir(), "none"), nil); f != nil || from != nil || err != nil {
		t.Errorf("a volume in use, and no snapshot: %v, %v, %v", f, from, err)
	}

	// What follows the files fails.
	v = volume(t)
	f, err := Open(one)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := v.Restore(t.Context(), f, func() error { return errors.New("full") }); err == nil || left(t, v) != "" {
		t.Errorf("got %v, the volume has\n%s", err, left(t, v))
	}
}

// Nothing is written, and nothing is left, of a snapshot that cannot be made.
func TestSaveFails(t *testing.T) {
	source := t.TempDir()
	tree(t, source)
	before := listing(t, source)
	released := false
	hold := func(ctx context.Context) (context.Context, func() error, error) {
		return ctx, func() error { released = true; return nil }, nil
	}
	for name, c := range map[string]struct {
		source Source
		want   string
		held   bool
	}{
		"no room":        {Source{Reserve: 1 << 60, Hold: hold}, ErrNoRoom.Error(), true},
		"does not stand": {Source{Hold: func(context.Context) (context.Context, func() error, error) { return nil, nil, errors.New("no") }}, "no", false},
		"went on too early": {Source{Hold: func(ctx context.Context) (context.Context, func() error, error) {
			return ctx, func() error { released = true; return errLimit }, nil
		}}, errLimit.Error(), true},
		"goes on at once": {Source{Hold: func(ctx context.Context) (context.Context, func() error, error) {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errors.New("killed"))
			return ctx, func() error { released = true; return nil }, nil
		}}, "killed", true},
	} {
		released = false
		c.source.Root = source
		var out bytes.Buffer
		_, err := c.source.Save(t.Context(), manifest, &out)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if out.Len() > 0 || released != c.held {
			t.Errorf("%s: %d bytes written; everything goes on: %v", name, out.Len(), released)
		}
		if after := listing(t, source); after != before {
			t.Errorf("%s: left behind:\n%s\nwas\n%s", name, after, before)
		}
	}
	// A writer that takes no more.
	s := Source{Root: source, Hold: hold}
	if _, err := s.Save(t.Context(), manifest, fullWriter{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// A disk that is full while a snapshot is made, and while one is restored.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	disk := func() string {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	noise := make([]byte, 6<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	source := disk()
	if err := os.WriteFile(filepath.Join(source, "noise"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	released := false
	s := Source{Root: source, Hold: func(ctx context.Context) (context.Context, func() error, error) {
		return ctx, func() error { released = true; return nil }, nil
	}}
	before := listing(t, source)
	var out bytes.Buffer
	if _, err := s.Save(t.Context(), manifest, &out); !errors.Is(err, ErrNoRoom) || !released || out.Len() > 0 {
		t.Errorf("got %v, went on: %v, written: %d", err, released, out.Len())
	}
	if after := listing(t, source); after != before {
		t.Errorf("there is\n%s\nwas\n%s", after, before)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(source, &st); err != nil || int64(st.Bavail)*st.Bsize < 1<<20 {
		t.Errorf("%d bytes are free, %v", int64(st.Bavail)*st.Bsize, err)
	}

	roomy := t.TempDir()
	for _, name := range []string{"a", "b"} {
		noise[0]++
		if err := os.WriteFile(filepath.Join(roomy, name), noise, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := save(t, Source{Root: roomy})
	small := func() Volume {
		root := disk()
		return Volume{Root: root, Restored: filepath.Join(root, "state/snapshot.json"), Restoring: filepath.Join(root, "restoring"), BootID: "boot"}
	}
	v := small()
	if err := restore(t, v, path); !errors.Is(err, ErrNoRoom) || left(t, v) != "" {
		t.Errorf("got %v, the volume has\n%s", err, left(t, v))
	}
	// As where others fill the disk meanwhile.
	v = small()
	if err := restore(t, v, edit(t, path, func(m map[string]any) { m["disk"] = 0 })); !errors.Is(err, unix.ENOSPC) || left(t, v) != "" {
		t.Errorf("got %v, the volume has\n%s", err, left(t, v))
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, unix.ENOSPC }
