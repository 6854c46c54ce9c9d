package missing

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

var table = map[string][]string{
	"[sig-x] one":                      {"registry.example/a:1"},
	"[sig-x] two":                      {"registry.example/a:1", "registry.example/b:2"},
	"[sig-x] cloud [Provider:gce,aws]": {"registry.example/gce:1"},
	"[sig-x] three":                    {"registry.example/b:2", "busybox", "registry.example/c@sha256:" + strings.Repeat("c", 64)},
}

func planned(names ...string) (specs []results.Planned) {
	for _, n := range names {
		specs = append(specs, results.Planned{Name: n})
	}
	return specs
}

func TestMissing(t *testing.T) {
	digest := table["[sig-x] three"][2]
	for _, test := range []struct {
		name          string
		specs         []string
		loaded, nodes []string
		asked         bool
		want          []Thing
	}{
		{"all is loaded", []string{"[sig-x] one", "[sig-x] two"}, []string{"registry.example/a:1", "registry.example/b:2"}, nil, false, nil},
		{"the nodes have the rest", []string{"[sig-x] one", "[sig-x] two"}, []string{"registry.example/a:1"}, []string{"registry.example/b:2"}, true, nil},
		{"another tag", []string{"[sig-x] one", "[sig-x] two"}, []string{"registry.example/a:2"}, []string{"registry.example/b:2"}, true,
			[]Thing{{"image registry.example/a:1", []string{"[sig-x] one", "[sig-x] two"}}}},
		{"names in full, and digests", []string{"[sig-x] three"}, nil, []string{"docker.io/library/busybox:latest", digest}, true,
			[]Thing{{"image registry.example/b:2", []string{"[sig-x] three"}}}},
		{"specs that need none", []string{"[sig-x] four", "[sig-x] cloud [Provider:gce,aws]"}, nil, nil, false, nil},
	} {
		asked := false
		got, err := NewTable("v1", table).Missing(t.Context(), planned(test.specs...), test.loaded, func(context.Context) ([]string, error) {
			asked = true
			return test.nodes, nil
		})
		if err != nil || asked != test.asked || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, %v, nodes asked: %t; want %v", test.name, got, err, asked, test.want)
		}
	}
	_, err := NewTable("v1", table).Missing(t.Context(), planned("[sig-x] one"), nil, func(context.Context) ([]string, error) {
		return nil, errors.New("no such node")
	})
	if err == nil || !strings.Contains(err.Error(), "no such node") {
		t.Errorf("got %v", err)
	}
}

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "needs.json")
	var b bytes.Buffer
	want := NewTable("v1.37.2", table)
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTable(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, images := range table {
		var names []string
		for _, i := range got.Specs[name] {
			names = append(names, got.Images[i])
		}
		if !reflect.DeepEqual(names, images) {
			t.Errorf("%s: got %q, want %q", name, names, images)
		}
	}
	for _, broken := range []string{"", `{"images":["a"],"specs":{"b":[1]}}`, `{"images":["a"],"specs":{"b":[-1]}}`} {
		if err := os.WriteFile(path, []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTable(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %v", broken, err)
		}
	}
}

// TestKernel asks the kernel that runs it, in the other way that there is to find out.
func TestKernel(t *testing.T) {
	none, err := Kernel(t.Context(), planned("[sig-network] Services should serve a basic endpoint"))
	if none != nil || err != nil {
		t.Errorf("specs that need nothing: got %v, %v", none, err)
	}
	spec := "[sig-network] SCTP should work"
	things, err := Kernel(t.Context(), []results.Planned{{Name: spec, Labels: []string{"Feature:SCTPConnectivity"}}})
	_, stat := os.Stat("/proc/net/sctp")
	if has := stat == nil; err != nil || has != (len(things) == 0) {
		t.Errorf("got %v, %v; /proc/net/sctp: %v", things, err, stat)
	}
	if len(things) == 1 && !reflect.DeepEqual(things[0].Specs, []string{spec}) {
		t.Errorf("got %v", things)
	}
}

// TestDummy compares with the kernel's own word, where it gives it.
func TestDummy(t *testing.T) {
	config, err := exec.Command("zcat", "/proc/config.gz").Output()
	if err != nil {
		t.Skipf("the kernel does not tell its configuration: %v", err)
	}
	for _, command := range [][]string{{"unshare", "--net", "true"}, {"ip", "-V"}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%q: %v: %s", command, err, out)
		}
	}
	spec := "[sig-node] PrivilegedPod [NodeConformance] should enable privileged commands [LinuxOnly]"
	things, err := Kernel(t.Context(), planned(spec))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(config, []byte("# CONFIG_DUMMY is not set")) {
		want := []Thing{{"kernel feature dummy network devices (CONFIG_DUMMY)", []string{spec}}}
		if !reflect.DeepEqual(things, want) {
			t.Errorf("got %v, want %v", things, want)
		}
	} else if bytes.Contains(config, []byte("CONFIG_DUMMY=y")) && things != nil {
		t.Errorf("got %v", things)
	}
}
