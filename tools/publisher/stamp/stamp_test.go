package stamp

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
)

const sha1, sha256Commit = "0123456789abcdef0123456789abcdef01234567", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestReadCommit(t *testing.T) {
	for _, c := range []struct{ text, want, err string }{
		{"BUILD_USER me\nSTABLE_COMMIT " + sha1 + "\n", sha1, ""},
		{"STABLE_COMMIT " + sha256Commit + "-dirty\n", sha256Commit + "-dirty", ""},
		{"STABLE_COMMIT " + sha1 + "-soiled\n", "", "is not a commit"},
		{"STABLE_COMMIT 0123\n", "", `"0123" is not a commit`},
		{"STABLE_COMMIT\n", "", `"" is not a commit`},
		{"STABLE_NO_COMMIT fatal: not a git repository\n", "", "fatal: not a git repository"},
		{"BUILD_USER me\n", "", "found none"},
		{"", "", "found none"},
	} {
		path := filepath.Join(t.TempDir(), "status")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := ReadCommit(path)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v; want %q, %q", c.text, got, err, c.want, c.err)
		}
	}
	if _, err := ReadCommit("/no/such/file"); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParseCommit(f *testing.F) {
	f.Add("STABLE_COMMIT " + sha1 + "-dirty\n")
	f.Add("STABLE_NO_COMMIT why\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCommit(text)
		if (err == nil) != commit.MatchString(c) {
			t.Errorf("%q, %v", c, err)
		}
		// It has to be good for a tag.
		if short := Short(c); err == nil && len(short) != 12 && len(short) != 12+len(dirty) {
			t.Errorf("%q", short)
		}
	})
}

func TestShort(t *testing.T) {
	for commit, want := range map[string]string{sha1: "0123456789ab", sha1 + "-dirty": "0123456789ab-dirty", "": "", "01-dirty": "01-dirty"} {
		if got := Short(commit); got != want {
			t.Errorf("%s is %s, want %s", commit, got, want)
		}
	}
}

func TestImage(t *testing.T) {
	base := imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"one"}, Config: image.Config{
		Healthcheck: &image.Healthcheck{Command: []string{"/check"}, StartInterval: "1s"},
	}})
	upper := imagetest.New(t, imagetest.Spec{Name: "upper:1", Base: base, Layers: []string{"two"}, Annotations: map[string]string{"x": "<1>"}})
	top := imagetest.New(t, imagetest.Spec{Name: "top:1", Base: upper, Layers: []string{"three"}})

	// All together, and the last one alone.
	s := stamper(t, sha1)
	var all []v1.Image
	for _, f := range []*image.Files{base, upper, top} {
		all = append(all, stampFiles(t, s, f))
	}
	alone := stampFiles(t, stamper(t, sha1, manifest(t, base), manifest(t, upper)), top)
	if digestOf(t, alone) != digestOf(t, all[2]) {
		t.Error("an image that is stamped alone is another one")
	}
	for i, want := range []map[string]string{
		{Revision: sha1},
		{Revision: sha1, "x": "<1>", image.BaseName: "base:1", image.BaseDigest: digestOf(t, all[0])},
		{Revision: sha1, image.BaseName: "upper:1", image.BaseDigest: digestOf(t, all[1])},
	} {
		if err := imagetest.Validate(all[i]); err != nil {
			t.Error(err)
		}
		m, err := all[i].Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(m.Annotations, want) {
			t.Errorf("image %d has annotations %q, want %q", i, m.Annotations, want)
		}
	}

	// Nothing but the annotation differs.
	built := open(t, base)
	for what, of := range map[string]func(v1.Image) ([]byte, error){
		"config": v1.Image.RawConfigFile,
		"manifest without the annotation": func(img v1.Image) ([]byte, error) {
			raw, err := img.RawManifest()
			return []byte(strings.Replace(string(raw), `,"annotations":{"`+Revision+`":"`+sha1+`"}`, "", 1)), err
		},
	} {
		want, err := of(built)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := of(all[0]); err != nil || string(got) != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s\n%v", what, got, want, err)
		}
	}
	if digestOf(t, built) == digestOf(t, all[0]) || digestOf(t, stampFiles(t, stamper(t, sha1+dirty), base)) == digestOf(t, all[0]) {
		t.Error("another commit gives the same digest")
	}
	if _, err := New(sha1, []byte("{")); err == nil || !strings.Contains(err.Error(), "stamping a base") {
		t.Errorf("a base that is none: %v", err)
	}
}

func stamper(t *testing.T, commit string, bases ...[]byte) *Stamper {
	t.Helper()
	s, err := New(commit, bases...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, f *image.Files) v1.Image {
	t.Helper()
	img, err := image.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func stampFiles(t *testing.T, s *Stamper, f *image.Files) v1.Image {
	t.Helper()
	img, err := s.Image(open(t, f))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func manifest(t *testing.T, f *image.Files) []byte {
	t.Helper()
	raw, err := open(t, f).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}
