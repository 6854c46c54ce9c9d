package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

func TestEmulates(t *testing.T) {
	for wanted, want := range map[string]string{
		"1.37": "", "1.36": "", "1.34": "",
		"1.33": `kubernetes.emulatedVersion: "1.33": Kubernetes 1.37 emulates 1.34 to 1.37`,
		"1.38": `kubernetes.emulatedVersion: "1.38": Kubernetes 1.37 emulates 1.34 to 1.37`,
	} {
		for _, own := range []string{"1.37", "1.37+"} {
			got := ""
			if err := emulates(own, wanted); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%s of %s: got %q, want %q", wanted, own, got, want)
			}
		}
	}
}

// What the cluster waits for is part of the start, images before the pods of manifests; the rest is not.
func TestPlanExtras(t *testing.T) {
	c := &cluster{settings: v1alpha1.Default()}
	c.settings.Images = []string{"/a.tar"}
	c.settings.Manifests = []v1alpha1.Manifest{{Content: "x"}}
	for _, test := range []struct{ waitFor, want []string }{
		{nil, nil},
		{[]string{"manifests"}, []string{"applying manifests"}},
		{[]string{"manifests", "images"}, []string{"loading images", "applying manifests"}},
	} {
		c.settings.Start.WaitFor = test.waitFor
		var got []string
		for _, a := range c.planExtras([]string{"before"}) {
			if !slices.Equal(a.Needs, append([]string{"before"}, got...)) {
				t.Errorf("%v: %s needs %q", test.waitFor, a.Name, a.Needs)
			}
			got = append(got, a.Name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.waitFor, got, test.want)
		}
	}
}

func TestIncomplete(t *testing.T) {
	file := filepath.Join(t.TempDir(), "incomplete")
	if err := incomplete(file); err != nil {
		t.Errorf("got %v without a file", err)
	}
	if err := os.WriteFile(file, []byte("applying manifests: no\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := incomplete(file); err == nil || err.Error() != "applying manifests: no" {
		t.Errorf("got %v", err)
	}
}
