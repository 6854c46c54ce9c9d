package imagetest_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/layer"
)

func TestValidate(t *testing.T) {
	change := func(t *testing.T, path string, with func([]byte) []byte) {
		t.Helper()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, with(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	diffID := func(t *testing.T, f *image.Files, n int) []byte {
		t.Helper()
		m, err := layer.ReadMetadata(f.Layers[n].Metadata)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(m.DiffID)
	}
	for want, damage := range map[string]func(t *testing.T, f *image.Files){
		"": func(*testing.T, *image.Files) {},
		"layer 1 has digest": func(t *testing.T, f *image.Files) {
			change(t, f.Layers[1].Blob, func(b []byte) []byte { b[len(b)-1]++; return b })
		},
		"mismatched config": func(t *testing.T, f *image.Files) {
			change(t, f.Config, func(b []byte) []byte { return append(b, ' ') })
		},
		// Of a layer whose blob is as the manifest says.
		"layer 0 has diff ID": func(t *testing.T, f *image.Files) {
			from, to := diffID(t, f, 0), diffID(t, f, 1)
			change(t, f.Layers[0].Metadata, func(b []byte) []byte { return bytes.Replace(b, from, to, 1) })
			config, manifest, err := image.Build(&image.Spec{Layers: f.Layers})
			if err != nil {
				t.Fatal(err)
			}
			change(t, f.Config, func([]byte) []byte { return config })
			change(t, f.Manifest, func([]byte) []byte { return manifest })
		},
	} {
		f := imagetest.New(t, imagetest.Spec{Name: "a:1", Layers: []string{"one", "two"}})
		damage(t, f)
		img, err := image.Open(f)
		if err == nil {
			err = imagetest.Validate(img)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
