package entrypoint

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTrust(t *testing.T) {
	root := t.TempDir()
	bundle := filepath.Join(root, caBundle)
	for _, dir := range []string{filepath.Dir(bundle), filepath.Join(root, caSources)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(bundle, []byte("usual\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Again and again, as at each start of a container.
	for _, step := range []struct {
		certificates []string
		want         string
	}{
		{nil, "usual\n"},
		{[]string{"a", "b\n\n"}, "usual\n" + ownCAs + "a\nb\n"},
		{[]string{"a", "b\n\n"}, "usual\n" + ownCAs + "a\nb\n"},
		{[]string{"c"}, "usual\n" + ownCAs + "c\n"},
		{nil, "usual\n"},
	} {
		if err := trust(root, step.certificates); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(bundle); err != nil || string(got) != step.want {
			t.Errorf("%q: got %q, %v, want %q", step.certificates, got, err, step.want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(root, caSources, "dind-cluster-1.crt")); err != nil || string(got) != "c\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := trust(t.TempDir(), []string{"a"}); err == nil {
		t.Error("no error without a bundle")
	}
}
