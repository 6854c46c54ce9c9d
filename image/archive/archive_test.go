package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/rootfs"
	"github.com/dind-cluster/dind-cluster/internal/compression/compresstest"
)

// plain returns an image of n uncompressed layers, as dind-cluster's own images have.
func plain(t testing.TB, n int) v1.Image {
	t.Helper()
	img := empty.Image
	for i := range n {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		content := bytes.Repeat([]byte{byte('a' + i)}, 5000)
		writeFile(t, tw, fmt.Sprintf("file%d", i), content)
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(buf.Bytes(), types.DockerUncompressedLayer)}); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func writeFile(t testing.TB, tw *tar.Writer, name string, content []byte) {
	t.Helper()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(content); err != nil {
		t.Fatal(err)
	}
}

func compressed(t testing.TB) v1.Image {
	t.Helper()
	img, err := random.Image(4096, 3)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// layoutDir returns an OCI layout directory with one image, named if name is not empty.
func layoutDir(t testing.TB, img v1.Image, name string) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	var opts []layout.Option
	if name != "" {
		opts = append(opts, layout.WithAnnotations(map[string]string{annotationRefName: name}))
	}
	if err := p.AppendImage(img, opts...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tarDir makes an OCI archive of a layout directory.
func tarDir(t testing.TB, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func spoolTo(t testing.TB) Options { return Options{SpoolDir: t.TempDir()} }

// load opens an archive from a stream and reads all of it.
func load(t testing.TB, b []byte) (*Archive, error) {
	t.Helper()
	a, err := Read(context.Background(), "test.tar", bytes.NewReader(b), spoolTo(t))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { a.Close() })
	return a, a.Verify(context.Background())
}

func TestOpen(t *testing.T) {
	unpacked, packed := plain(t, 3), compressed(t)
	const ref = "registry.k8s.io/pause:3.10.2"
	save := imagetest.Save(t, map[string]v1.Image{ref: unpacked})
	oci := tarDir(t, layoutDir(t, packed, ref))
	tests := []struct {
		name    string
		content []byte
		want    v1.Image
	}{
		{"docker-save", save, unpacked},
		{"docker-save, gzip layers", imagetest.Save(t, map[string]v1.Image{ref: packed}), packed},
		{"docker-save, gzip", compresstest.Gzip(t, save), unpacked},
		{"docker-save, zstd", compresstest.Zstd(t, save), unpacked},
		{"OCI", oci, packed},
		{"OCI, gzip", compresstest.Gzip(t, oci), packed},
		{"OCI, zstd", compresstest.Zstd(t, oci), packed},
		{"OCI, uncompressed layers", tarDir(t, layoutDir(t, unpacked, ref)), unpacked},
	}
	for _, tt := range tests {
		check := func(t *testing.T, a *Archive, err error) {
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if len(a.Images) != 1 || len(a.Images[0].Names) != 1 || a.Images[0].Names[0] != ref {
				t.Fatalf("images %v, want one named %s", a.Images, ref)
			}
			img := a.Images[0]
			if err := a.Verify(context.Background()); err != nil {
				t.Error(err)
			}
			want, _ := tt.want.ConfigName()
			if got, _ := img.ConfigName(); got != want {
				t.Errorf("image ID %s, want %s", got, want)
			}
			wantDigest, _ := tt.want.Digest()
			if got, _ := img.Digest(); strings.HasPrefix(tt.name, "OCI") && got != wantDigest {
				t.Errorf("manifest digest %s, want %s", got, wantDigest)
			}
		}
		t.Run(tt.name+"/stream", func(t *testing.T) {
			a, err := Read(context.Background(), "standard input", bytes.NewReader(tt.content), spoolTo(t))
			check(t, a, err)
		})
		t.Run(tt.name+"/file", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(path, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			a, err := Open(context.Background(), path, spoolTo(t))
			check(t, a, err)
		})
	}
	t.Run("layout directory", func(t *testing.T) {
		a, err := Open(context.Background(), layoutDir(t, packed, ref), spoolTo(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(a.Images[0]); err != nil {
			t.Error(err)
		}
	})
}

func TestNames(t *testing.T) {
	one, two := compressed(t), compressed(t)
	t.Run("several images and tags", func(t *testing.T) {
		a, err := load(t, imagetest.Save(t, map[string]v1.Image{"debian": one, "debian:trixie": one, "example.org/a/b:1": two}))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, img := range a.Images {
			for _, n := range img.Names {
				got[n] = true
			}
		}
		for _, n := range []string{"docker.io/library/debian:latest", "docker.io/library/debian:trixie", "example.org/a/b:1"} {
			if !got[n] {
				t.Errorf("%s is not among %v", n, got)
			}
		}
		if len(a.Images) != 2 {
			t.Errorf("%d images, want 2", len(a.Images))
		}
	})
	for annotation, want := range map[string]string{
		"dind-node:v1.37.2": "docker.io/library/dind-node:v1.37.2",
		"v1.37.2":           "", // a bare tag names no image
		"":                  "",
	} {
		a, err := Open(context.Background(), layoutDir(t, one, annotation), spoolTo(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(a.Images[0].Names, " "); got != want {
			t.Errorf("ref name %q: names %q, want %q", annotation, got, want)
		}
	}
	if a, err := Open(context.Background(), layoutDir(t, one, "a//b:1"), spoolTo(t)); err == nil {
		t.Errorf("a bad name was accepted: %v", a.Images)
	}
}

func TestPlatform(t *testing.T) {
	mine, other := compressed(t), compressed(t)
	add := func(img v1.Image, os, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}}
	}
	idx := mutate.AppendManifests(empty.Index, add(other, "linux", "s390x"), add(mine, "linux", "amd64"), add(compressed(t), "unknown", "unknown"))
	write := func(idx v1.ImageIndex) string {
		dir := t.TempDir()
		p, err := layout.Write(dir, empty.Index)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.AppendIndex(idx, layout.WithAnnotations(map[string]string{annotationRefName: "a/b:1"})); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	o := spoolTo(t)
	o.Platform = &v1.Platform{OS: "linux", Architecture: "amd64"}
	a, err := Open(context.Background(), write(idx), o)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := mine.Digest()
	if got, _ := a.Images[0].Digest(); len(a.Images) != 1 || got != want || a.Images[0].Names[0] != "docker.io/a/b:1" {
		t.Errorf("got %v", a.Images)
	}
	_, err = Open(context.Background(), write(mutate.AppendManifests(empty.Index, add(other, "linux", "s390x"))), o)
	if err == nil || !strings.Contains(err.Error(), "no image for linux/amd64, only for linux/s390x") {
		t.Errorf("got %v", err)
	}
}

func TestLinkedLayers(t *testing.T) {
	// docker save of old: HEX/layer.tar, a repeated layer being a symbolic link.
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	writeFile(t, tw, "f", []byte("content"))
	tw.Close()
	id, _, _ := v1.SHA256(bytes.NewReader(layer.Bytes()))
	config := fmt.Appendf(nil, `{"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`, id, id)
	configID, _, _ := v1.SHA256(bytes.NewReader(config))
	var buf bytes.Buffer
	tw = tar.NewWriter(&buf)
	writeFile(t, tw, "one/layer.tar", layer.Bytes())
	tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "two/layer.tar", Linkname: "../one/layer.tar"})
	writeFile(t, tw, configID.Hex+".json", config)
	writeFile(t, tw, "manifest.json", fmt.Appendf(nil, `[{"Config":"%s.json","RepoTags":["a:1"],"Layers":["one/layer.tar","two/layer.tar"]}]`, configID.Hex))
	tw.Close()
	a, err := load(t, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.Images[0].Blobs()); n != 2 {
		t.Errorf("%d layers, want 2", n)
	}
}

func TestSelfContained(t *testing.T) {
	type entry struct {
		name string
		kind byte
	}
	tests := []struct {
		entries []entry
		want    bool
	}{
		{nil, true},
		{[]entry{{"file", tar.TypeReg}}, true},
		{[]entry{{"./", tar.TypeDir}, {"./etc/", tar.TypeDir}, {"./etc/file", tar.TypeReg}}, true},
		{[]entry{{"etc", tar.TypeDir}, {"etc/.wh.file", tar.TypeReg}}, true},
		{[]entry{{"etc/file", tar.TypeReg}}, false},
		{[]entry{{"a", tar.TypeDir}, {"a/b/c", tar.TypeDir}}, false},
		{[]entry{{"etc/file", tar.TypeReg}, {"etc", tar.TypeDir}}, false},
		{[]entry{{"bin", tar.TypeSymlink}, {"bin/sh", tar.TypeReg}}, false},
	}
	for _, tt := range tests {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		for _, e := range tt.entries {
			if err := tw.WriteHeader(&tar.Header{Typeflag: e.kind, Name: e.name, Linkname: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		tw.Close()
		l := Layer{blob: &Blob{Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }}}
		if got := l.SelfContained(); got != tt.want {
			t.Errorf("%v: %v", tt.entries, got)
		}
	}
}

// TestDamaged changes good archives in one place. Whatever is changed must be noticed by opening
// and verifying.
func TestDamaged(t *testing.T) {
	const ref = "registry.k8s.io/pause:3.10.2"
	archives := map[string][]byte{
		"docker-save":             imagetest.Save(t, map[string]v1.Image{ref: plain(t, 2)}),
		"docker-save gzip layers": imagetest.Save(t, map[string]v1.Image{ref: compressed(t)}),
		"OCI":                     tarDir(t, layoutDir(t, compressed(t), ref)),
		"OCI plain layers":        tarDir(t, layoutDir(t, plain(t, 2), ref)),
	}
	for kind, good := range archives {
		content := contentEnd(t, good)
		t.Run(kind+"/truncated", func(t *testing.T) {
			for n := 0; n < content; n += 97 {
				if _, err := load(t, good[:n]); err == nil {
					t.Fatalf("the first %d of %d bytes were accepted", n, len(good))
				} else if !strings.Contains(err.Error(), "test.tar") {
					t.Fatalf("the first %d bytes: the error does not name the archive: %v", n, err)
				}
			}
		})
		for c, pack := range map[string]func(testing.TB, []byte) []byte{"gzip": compresstest.Gzip, "zstd": compresstest.Zstd} {
			t.Run(kind+"/truncated "+c, func(t *testing.T) {
				small := pack(t, good)
				for n := 0; n < len(small)-1; n += 1 + len(small)/50 {
					if _, err := load(t, small[:n]); err == nil {
						t.Fatalf("the first %d of %d bytes were accepted", n, len(small))
					}
				}
			})
		}
		t.Run(kind+"/tampered", func(t *testing.T) {
			for _, f := range blobsIn(t, good) {
				for _, at := range []int64{0, f.size / 2, f.size - 1} {
					bad := bytes.Clone(good)
					bad[f.offset+at] ^= 0x20
					_, err := load(t, bad)
					if err == nil {
						t.Errorf("%s: byte %d of %d changed, and nobody noticed", f.name, at, f.size)
						continue
					}
					var digest *DigestError
					if errors.As(err, &digest) {
						for _, part := range []string{"test.tar", digest.Want.String(), digest.Got.String(), filepath.Base(f.name)} {
							if !strings.Contains(err.Error(), part) {
								t.Errorf("%s: %v: does not say %q", f.name, err, part)
							}
						}
					} else if kind == "OCI" || kind == "OCI plain layers" || kind == "docker-save" {
						t.Errorf("%s: byte %d: not a DigestError: %v", f.name, at, err)
					}
				}
			}
		})
		t.Run(kind+"/missing", func(t *testing.T) {
			for _, f := range blobsIn(t, good) {
				_, err := load(t, without(t, good, f.name))
				var missing *MissingError
				if !errors.As(err, &missing) || !strings.Contains(err.Error(), filepath.Base(f.name)) {
					t.Errorf("without %s: %v", f.name, err)
				}
			}
		})
	}
}

type span struct {
	name         string
	offset, size int64
}

// blobsIn lists the layers, configs and manifests of an archive.
func blobsIn(t *testing.T, b []byte) (out []span) {
	t.Helper()
	files, err := indexTar("x", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for n, e := range files.entries {
		if e.size > 0 && !strings.HasSuffix(n, "index.json") && n != "manifest.json" && n != "oci-layout" {
			out = append(out, span{n, e.offset, e.size})
		}
	}
	return out
}

// contentEnd returns where an archive's last file ends; what follows is padding.
func contentEnd(t *testing.T, b []byte) (end int) {
	t.Helper()
	files, err := indexTar("x", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files.entries {
		end = max(end, int(e.offset+e.size))
	}
	return end
}

func without(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for tr := tar.NewReader(bytes.NewReader(b)); ; {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if rootfs.Clean(hdr.Name) == name {
			continue
		}
		tw.WriteHeader(hdr)
		io.Copy(tw, tr)
	}
	tw.Close()
	return buf.Bytes()
}

func TestNotAnArchive(t *testing.T) {
	var other bytes.Buffer
	tw := tar.NewWriter(&other)
	writeFile(t, tw, "hello", []byte("world"))
	tw.Close()
	tests := []struct {
		name, content, want string
	}{
		{"empty", "", "test.tar is empty"},
		{"text", strings.Repeat("no tar ", 200), "neither a tar archive nor"},
		{"short", "x", "test.tar"},
		{"another tar", other.String(), "neither an index.json (OCI) nor a manifest.json (docker save)"},
		{"xz", "\xfd7zXZ\x00rest", "xz compression is not supported"},
		{"gzip of text", string(compresstest.Gzip(t, bytes.Repeat([]byte("no tar "), 200))), "neither a tar archive nor"},
	}
	for _, tt := range tests {
		_, err := load(t, []byte(tt.content))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := Open(context.Background(), filepath.Join(t.TempDir(), "none"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestWrongDiffID(t *testing.T) {
	img := plain(t, 2)
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	want := strings.Repeat("0", 64)
	cf.RootFS.DiffIDs[1].Hex = want
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	a, err := Open(context.Background(), layoutDir(t, img, "a:1"), spoolTo(t))
	if err == nil {
		err = a.Verify(context.Background())
	}
	var digest *DigestError
	if !errors.As(err, &digest) || digest.Want.Hex != want || digest.Promise != "the image's config" {
		t.Errorf("got %v", err)
	}
}

func TestSpoolFull(t *testing.T) {
	_, err := Read(context.Background(), "standard input", bytes.NewReader(imagetest.Save(t, map[string]v1.Image{"a:1": plain(t, 1)})), Options{SpoolDir: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.Contains(err.Error(), "spooling standard input") {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, "test.tar", bytes.NewReader(imagetest.Save(t, map[string]v1.Image{"a:1": plain(t, 1)})), spoolTo(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	good := imagetest.Save(f, map[string]v1.Image{"a:1": plain(f, 1)})
	f.Add(good)
	f.Add(compresstest.Gzip(f, good))
	f.Add(compresstest.Zstd(f, good))
	f.Add(good[:len(good)/2])
	f.Add(tarDir(f, layoutDir(f, plain(f, 1), "a:1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Read(context.Background(), "fuzz", bytes.NewReader(b), Options{SpoolDir: os.TempDir()})
		if err != nil {
			return
		}
		defer a.Close()
		if len(a.Images) == 0 {
			t.Error("opened, but without an image")
		}
		if a.Verify(context.Background()) != nil {
			return
		}
		for _, img := range a.Images {
			for _, l := range img.Blobs() {
				// Fails, too, when the bytes as they are stored do not have the layer's digest.
				rc, err := l.Compressed()
				if err != nil {
					t.Fatal(err)
				}
				want, _ := l.Size()
				if n, err := io.Copy(io.Discard, rc); n != want || err != nil {
					t.Errorf("%s is verified, but of a layer's %d bytes %d can be read: %v", img, want, n, err)
				}
				rc.Close()
			}
		}
	})
}
