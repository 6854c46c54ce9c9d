package collect

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

// pods.json has the form of an API server's list, with most fields left out, and a name that no API
// server lets in.
func TestPodLogs(t *testing.T) {
	data, err := os.ReadFile("testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	logs, err := podLogs(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range logs {
		got = append(got, l.file+": "+strings.Join(l.args, " "))
	}
	want := []string{
		"default/crashing/main.log: logs --timestamps --namespace default crashing --container main",
		"default/crashing/main.previous.log: logs --timestamps --namespace default crashing --container main --previous",
		"kube-system/kube-controller-manager-control-plane/wait-for-kube-apiserver.log: logs --timestamps --namespace kube-system kube-controller-manager-control-plane --container wait-for-kube-apiserver",
		"kube-system/kube-controller-manager-control-plane/kube-controller-manager.log: logs --timestamps --namespace kube-system kube-controller-manager-control-plane --container kube-controller-manager",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %s", strings.Join(got, "\n    "))
	}
	for _, bad := range []string{"", "[]", "{"} {
		if _, err := podLogs([]byte(bad)); err == nil {
			t.Errorf("%q is a list of pods", bad)
		}
	}
}

func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree are the files below a directory with their contents.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// script is a command that does what a shell does.
func script(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNodesStayInside(t *testing.T) {
	top := t.TempDir()
	data := archive(t, map[string]string{"node/x.log": "1", "../../outside": "2", "/absolute": "3", "a/../b": "4"})
	nodes := func(data []byte) map[string]string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(top, "logs.tar"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		o := Options{Runner: script(t, "runner", "cat "+top+"/logs.tar\n")}
		if err := o.nodes(t.Context(), filepath.Join(top, "a", "b")); err != nil {
			t.Fatal(err)
		}
		got := tree(t, top)
		delete(got, "logs.tar")
		return got
	}
	got := nodes(data)
	if refusal := got["a/b/nodes/error.txt"]; !strings.Contains(refusal, "../../outside: Member name contains '..'") {
		t.Errorf("got %q", refusal)
	}
	delete(got, "a/b/nodes/error.txt")
	if want := map[string]string{"a/b/nodes/node/x.log": "1", "a/b/nodes/absolute": "3"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	// What came before the archive broke stays.
	if err := os.RemoveAll(filepath.Join(top, "a")); err != nil {
		t.Fatal(err)
	}
	got = nodes(archive(t, map[string]string{"x.log": "1", "y.log": "2"})[:1024+512+300])
	if got["a/b/nodes/x.log"] != "1" || !strings.HasPrefix(got["a/b/nodes/error.txt"], "(not complete: runner logs: exit status 2: ") {
		t.Errorf("of a broken archive there is %q", got)
	}
}

func TestCollect(t *testing.T) {
	tarFile := filepath.Join(t.TempDir(), "logs.tar")
	if err := os.WriteFile(tarFile, archive(t, map[string]string{"worker1/kubelet.log": "it ran"}), 0o644); err != nil {
		t.Fatal(err)
	}
	pods, err := filepath.Abs("testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	kubectl := script(t, "kubectl", `shift 4
		case "$*" in
		*json) cat `+pods+`;;
		*--previous) echo gone >&2; exit 1;;
		*) echo "$*";;
		esac`)
	runner := script(t, "runner", "cat "+tarFile+"\n")
	cluster := map[string]string{
		"nodes.txt":           "get nodes --output wide\n",
		"nodes-described.txt": "describe nodes\n",
		"pods.txt":            "get pods --all-namespaces --output wide\n",
		"events.txt":          "get events --all-namespaces --sort-by .metadata.creationTimestamp\n",
	}
	elsewhere := map[string]string{
		"pods/default/crashing/main.log":          "logs --timestamps --namespace default crashing --container main\n",
		"pods/default/crashing/main.previous.log": "(not complete: kubectl logs --timestamps --namespace default crashing --container main --previous: gone)\n",
	}
	for _, c := range []string{"kube-controller-manager", "wait-for-kube-apiserver"} {
		elsewhere["pods/kube-system/kube-controller-manager-control-plane/"+c+".log"] =
			"logs --timestamps --namespace kube-system kube-controller-manager-control-plane --container " + c + "\n"
	}
	for _, test := range []struct {
		product bool
		more    map[string]string
	}{
		{true, map[string]string{"nodes/worker1/kubelet.log": "it ran"}},
		{false, elsewhere},
	} {
		dir := filepath.Join(t.TempDir(), "logs")
		if err := Collect(t.Context(), dir, Options{Suite: &suite.Suite{Kubectl: kubectl, Kubeconfig: "/k"}, Product: test.product, Runner: runner}); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(cluster)
		maps.Copy(want, test.more)
		if got := tree(t, dir); !reflect.DeepEqual(got, want) {
			t.Errorf("product %t: got %q", test.product, got)
		}
	}
}

// A cluster that does not answer leaves a word in each place, and the deadline holds.
func TestCollectEndsInTime(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, cause)
	defer cancel()
	dir := t.TempDir()
	start := time.Now()
	err := Collect(ctx, dir, Options{
		Suite:   &suite.Suite{Kubectl: script(t, "kubectl", "exec sleep 1000")},
		Product: true, Runner: script(t, "runner", "echo no tar; exec sleep 1000"),
	})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if got := tree(t, dir); !strings.Contains(got["nodes.txt"], "enough") || !strings.Contains(got["nodes/error.txt"], "enough") {
		t.Errorf("got %q", got)
	}
}
