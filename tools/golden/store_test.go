package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/deb/debtest"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/spool"
	"github.com/dind-cluster/dind-cluster/image/store"
	"github.com/dind-cluster/dind-cluster/image/store/snapshot"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

// A store that is made of layers, as the images' are, is listed by their names, whatever kinds of
// files they have.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	lower := debtest.Package{Name: "a", Files: []debtest.File{
		{Path: "./usr/"}, {Path: "./usr/bin/"}, {Path: "./usr/bin/a", Content: "program", Mode: 0o4755, Xattrs: map[string]string{"security.capability": "\x01\x00"}},
		{Path: "./usr/bin/b", HardLink: "./usr/bin/a"}, {Path: "./usr/bin/c", Link: "a b"}, {Path: "./var/"}, {Path: "./var/private/", Mode: 0o700, UID: 5, GID: 6},
	}}.Write(t)
	upper := debtest.Package{Name: "b", Files: []debtest.File{{Path: "./var/"}, {Path: "./var/lib/"}, {Path: "./var/lib/b", Content: "data", GID: 7}}}.Write(t)

	content, err := spool.New()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	group, err := store.NewGroup("/usr/lib/x/store/node", "/usr/lib/x", content)
	if err != nil {
		t.Fatal(err)
	}
	var names []source
	var own, below []*snapshot.Layer
	state := ""
	for i, deb := range []string{lower, upper} {
		spec := &layer.Spec{Name: "//:" + filepath.Base(deb), Debs: []string{deb}, Below: state, Compression: "zstd"}
		l, err := layer.Build(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		blob := filepath.Join(dir, filepath.Base(deb))
		f, err := os.Create(blob)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		metadata, err := layer.WriteBlob(f, l.Entries, spec)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(metadata)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blob+".json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		state = blob + ".state"
		if err := l.State.Write(state); err != nil {
			t.Fatal(err)
		}
		names = append(names, source{spec.Name, list(t, l.Entries)})
		read, err := store.ReadBlob(blob, blob+".json", content)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := group.AddLayer(i, read, below); err != nil {
			t.Fatal(err)
		}
		own, below = append(own, read), append(below, read)
	}
	all, err := group.Share("usr/lib/x/store/node/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs", own[0].Tree)
	if err != nil {
		t.Fatal(err)
	}
	l := list(t, all.Sorted())
	l.refer(names)
	got := strings.ReplaceAll(strings.TrimPrefix(l.String(), head), "./usr/lib/x/store/node/io.containerd.snapshotter.v1.overlayfs/snapshots", "…")
	want := `./* layer=//:a.deb
./usr/lib/x type=dir mode=0755
./usr/lib/x/store type=dir mode=0755
./usr/lib/x/store/node type=dir mode=0755
./usr/lib/x/store/node/io.containerd.snapshotter.v1.overlayfs type=dir mode=0755
… type=dir mode=0755
…/1 type=dir mode=0700
…/1/fs type=dir mode=0755
…/1/fs/* layer=//:a.deb
…/2 type=dir mode=0700
…/2/fs type=dir mode=0755
…/2/fs/var type=dir mode=0755
…/2/fs/var/lib type=dir mode=0755
…/2/fs/* layer=//:b.deb
…/2/fs/var/lib/dpkg type=dir mode=0755
…/2/fs/var/lib/dpkg/info type=dir mode=0755
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func list(t *testing.T, entries []*tree.Entry) listing {
	t.Helper()
	var b bytes.Buffer
	if err := mtree.Write(&b, entries); err != nil {
		t.Fatal(err)
	}
	return parse(b.String())
}
