package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// TestSnapshot saves a cluster to which a client writes, as a file and as an image, and brings it
// back twice, beside the one that was saved: once as it was, once with keys of its own.
func TestSnapshot(t *testing.T) {
	ctx, m := newMachine(t)
	b := m.create(ctx, t, m.options(t, "saved", 2))
	agnhost := b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost")
	b.load(ctx, t, "AGNHOST")
	b.apply(ctx, t, "kept.yaml", "AGNHOST", agnhost)
	b.kubectl(ctx, t, "wait", "--for=condition=Available", "deployment/kept", "--timeout=60s")
	pods := b.pods(ctx, t, "--selector=app=kept")
	if len(pods) != 1 {
		t.Fatalf("%d pods", len(pods))
	}
	kept := pods[0]
	data := "/var/lib/kubelet/pods/" + kept.Metadata.UID + "/volumes/kubernetes.io~empty-dir/data/"
	b.exec(ctx, t, "docker", "exec", kept.Spec.NodeName, "sh", "-c", "echo mine > "+data+"file && chown 12:34 "+data+"file")

	step := steps(t)
	file, image := filepath.Join(t.TempDir(), "x.snapshot"), m.run+":snapshot"
	t.Cleanup(func() { m.removeImage(t, image) }) // after the containers of it
	var before, other int64
	step("save", func(t *testing.T) {
		w := b.startWriter(ctx, t, kept.Spec.NodeName, data+"lines")
		w.wait(t, 3)
		before = w.acknowledged.Load()
		start := time.Now()
		if err := m.launcher.SaveSnapshot(ctx, b.name, file); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		w.wait(t, 2)
		other = w.acknowledged.Load()
		if err := m.launcher.SaveSnapshotImage(ctx, b.name, image); err != nil {
			t.Fatal(err)
		}
		// The one that was saved goes on.
		w.wait(t, 3)
		w.stop()
		if err := b.health(ctx); err != nil {
			t.Errorf("the cluster that was saved: %v", err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes in %.2f s", info.Size(), took.Seconds())
		if info.Mode().Perm() != 0o600 {
			t.Errorf("others may read the file with the cluster's keys: %v", info.Mode())
		}
	})

	step("cut off", func(t *testing.T) {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		short := filepath.Join(t.TempDir(), "short")
		if err := os.WriteFile(short, whole[:len(whole)*2/3], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := host.ReadSnapshot(short); err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("got %v", err)
		}
	})

	var same, fresh *box
	for _, suffix := range []string{"same", "fresh"} {
		t.Cleanup(func() { m.remove(t, m.run+"-"+suffix) })
	}
	step("restore twice", func(t *testing.T) {
		from, err := host.ReadSnapshot(file)
		if err != nil {
			t.Fatal(err)
		}
		inImage, err := m.launcher.ImageSnapshot(ctx, image)
		if err != nil {
			t.Fatal(err)
		}
		inImage.FreshKeys = true
		options := func(suffix string, s *host.Snapshot) host.Request {
			o := m.options(t, suffix, 0)
			o.Snapshot = s
			return o
		}
		one, two := options("same", from), options("fresh", inImage)
		two.Image = host.Present(image)
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, into := range []**box{&same, &fresh} {
			wg.Go(func() {
				o := []host.Request{one, two}[i]
				start := time.Now()
				made, err := m.launcher.Create(ctx, o)
				if err != nil {
					errs[i] = err
					return
				}
				t.Logf("cluster %s: restored and all ready in %.1f s", o.Name, time.Since(start).Seconds())
				*into = &box{machine: m, name: o.Name, id: made.ID, made: made}
			})
		}
		wg.Wait()
		for i, err := range errs {
			if err != nil {
				m.dump(t, []host.Request{one, two}[i].Name)
				t.Error(err)
			}
		}
	})
	step("as it was", func(t *testing.T) {
		testRestored(ctx, t, b, same, kept, data, agnhost, before)
		if !bytes.Equal(same.made.Kubeconfig.CA, b.made.Kubeconfig.CA) {
			t.Error("it has another authority")
		}
		if status := get(ctx, t, *b.made.Kubeconfig, same); status != http.StatusOK {
			t.Errorf("the kubeconfig of the one that was saved: status %d", status)
		}
		if out := same.exec(ctx, t, "ls", "/etc/dind-cluster"); out != "" {
			t.Errorf("the copy of the snapshot stays: %s", out)
		}
	})
	step("with fresh keys", func(t *testing.T) {
		testRestored(ctx, t, b, fresh, kept, data, agnhost, other)
		testFreshKeys(ctx, t, b, fresh)
	})
	step("restart", func(t *testing.T) {
		// With the snapshot still in the image.
		fresh.restart(ctx, t)
		fresh.kubectl(ctx, t, "wait", "--for=condition=Available", "deployment/kept", "--timeout=60s")
		if status := get(ctx, t, *fresh.made.Kubeconfig, fresh); status != http.StatusOK {
			t.Errorf("its own kubeconfig: status %d", status)
		}
	})
}

func (m *machine) removeImage(t *testing.T, ref string) {
	ctx, cancel := cleanup(t)
	defer cancel()
	if err := m.launcher.Docker.Do(ctx, "remove image "+ref, "image", "rm", "--force", ref); err != nil {
		t.Log(err)
	}
}

// writer writes to a cluster all the time: objects one after the other, and lines to a file in a
// node.
type writer struct {
	b            *box
	acknowledged atomic.Int64
	stop         func()
}

func (b *box) startWriter(ctx context.Context, t *testing.T, node, file string) *writer {
	t.Helper()
	w := &writer{b: b}
	writing, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	lines := exec.CommandContext(writing, b.launcher.Docker.Path, "exec", b.name, "docker", "exec", node,
		"sh", "-c", "n=0; while [ ! -e "+file+".end ]; do n=$((n+1)); echo $n >> "+file+"; done")
	wg.Go(func() {
		if err := lines.Run(); err != nil && writing.Err() == nil {
			t.Errorf("writing lines: %v", err)
		}
	})
	wg.Go(func() {
		for n := int64(1); writing.Err() == nil; {
			_, err := b.launcher.Docker.Exec(writing, b.name, "kubectl", "--request-timeout=5s", "create", "configmap", fmt.Sprintf("write-%d", n))
			if err != nil && !strings.Contains(err.Error(), "already exists") {
				continue
			}
			w.acknowledged.Store(n)
			n++
		}
	})
	w.stop = sync.OnceFunc(func() {
		b.exec(ctx, t, "docker", "exec", node, "touch", file+".end")
		cancel()
		wg.Wait()
	})
	t.Cleanup(w.stop)
	return w
}

// wait waits for so many further objects.
func (w *writer) wait(t *testing.T, writes int64) {
	t.Helper()
	from := w.acknowledged.Load()
	for deadline := time.Now().Add(w.b.patience * time.Minute); w.acknowledged.Load() < from+writes; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is written any more")
		}
	}
}

// testRestored checks that a cluster has all that was acknowledged before it was saved, and of what
// was written meanwhile a beginning.
func testRestored(ctx context.Context, t *testing.T, saved, b *box, kept pod, data, image string, acknowledged int64) {
	t.Helper()
	if got := b.kubectl(ctx, t, "get", "configmap/keepsake", "--output=jsonpath={.data.survives}"); got != "a snapshot" {
		t.Errorf("an object has %q", got)
	}
	b.kubectl(ctx, t, "wait", "--for=condition=Available", "deployment/kept", "--timeout=60s")
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pod/"+kept.Metadata.Name, "--timeout=60s")
	if got := b.pods(ctx, t, "--selector=app=kept"); len(got) != 1 || got[0].Metadata.UID != kept.Metadata.UID {
		t.Errorf("pods: %+v, want %+v", got, kept)
	}
	if got := b.exec(ctx, t, "docker", "exec", kept.Spec.NodeName, "sh", "-c", "cd "+data+" && cat file && stat --format=%u:%g file"); got != "mine\n12:34\n" {
		t.Errorf("a file of a volume: %q", got)
	}
	for _, n := range b.nodes(ctx, t) {
		if list := b.exec(ctx, t, "docker", "exec", n.Metadata.Name, "crictl", "images", "--output=json"); !strings.Contains(list, `"`+image+`"`) {
			t.Errorf("node %s has no %s", n.Metadata.Name, image)
		}
	}
	written := numbers(t, b.kubectl(ctx, t, "get", "configmaps", "--output=name"), "configmap/write-")
	checkBeginning(t, "objects", written)
	if int64(len(written)) < acknowledged {
		t.Errorf("%d objects were acknowledged, and %d are there", acknowledged, len(written))
	}
	lines := numbers(t, b.exec(ctx, t, "docker", "exec", kept.Spec.NodeName, "cat", data+"lines"), "")
	checkBeginning(t, "lines", lines)
	t.Logf("cluster %s has %d objects and %d lines of what was written", b.name, len(written), len(lines))
	uid := []string{"get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"}
	if b.kubectl(ctx, t, uid...) != saved.kubectl(ctx, t, uid...) {
		t.Error("it is another cluster")
	}
}

func numbers(t *testing.T, text, prefix string) []int {
	t.Helper()
	var all []int
	for line := range strings.Lines(text) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			if n, err := strconv.Atoi(number); err == nil {
				all = append(all, n)
			} else if prefix == "" {
				t.Errorf("a line is %q", line)
			}
		}
	}
	return all
}

// checkBeginning checks that numbers are 1 to n.
func checkBeginning(t *testing.T, what string, all []int) {
	t.Helper()
	slices.Sort(all)
	for i, n := range all {
		if n != i+1 {
			t.Errorf("of the %s, number %d is missing, or there twice", what, i+1)
			return
		}
	}
	if len(all) == 0 {
		t.Errorf("there are no %s", what)
	}
}

// testFreshKeys checks that nothing of the cluster that was saved opens another one.
func testFreshKeys(ctx context.Context, t *testing.T, saved, b *box) {
	if bytes.Equal(b.made.Kubeconfig.CA, saved.made.Kubeconfig.CA) {
		t.Error("it has the same authority")
	}
	if status := get(ctx, t, *saved.made.Kubeconfig, b); status != http.StatusUnauthorized {
		t.Errorf("the kubeconfig of the one that was saved: status %d", status)
	}
	if status := get(ctx, t, *b.made.Kubeconfig, b); status != http.StatusOK {
		t.Errorf("its own kubeconfig: status %d", status)
	}
	token := strings.TrimSpace(saved.kubectl(ctx, t, "create", "token", "default"))
	if out, err := b.launcher.Docker.Exec(ctx, b.name, "kubectl", "--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify", "--token="+token, "auth", "whoami"); err == nil {
		t.Errorf("a token of the one that was saved is taken: %s", out)
	}
	own := strings.TrimSpace(b.kubectl(ctx, t, "create", "token", "default"))
	b.exec(ctx, t, "kubectl", "--kubeconfig=/dev/null", "--server=https://127.0.0.1:6443", "--insecure-skip-tls-verify", "--token="+own, "auth", "whoami")

	// No file has a key of the other one, but for one that agnhost's image has, and no object its authority.
	const keys = `grep -rhaE -A1 'BEGIN (EC |RSA )?PRIVATE KEY' /var/lib/docker --include=*.key --include=*.pem --exclude=localhost.key |
		grep -vE '^--|KEY' | sort -u`
	theirs := saved.exec(ctx, t, "sh", "-c", keys)
	if n := strings.Count(theirs, "\n"); n < 10 {
		t.Fatalf("only found %d keys", n)
	}
	if out, err := b.launcher.Docker.ExecInput(ctx, b.name, strings.NewReader(theirs), "sh", "-c", "grep -rlaFf - /var/lib/docker || :"); err != nil || len(out) > 0 {
		t.Errorf("files with keys of the one that was saved: %s %v", out, err)
	}
	objects := b.kubectl(ctx, t, "get", "configmaps,secrets", "--all-namespaces", "--output=json")
	ca := strings.TrimSpace(string(saved.made.Kubeconfig.CA))
	for what, text := range map[string]string{
		"as text":    strings.ReplaceAll(ca, "\n", `\n`),
		"in base 64": base64.StdEncoding.EncodeToString([]byte(ca))[:400],
	} {
		if strings.Contains(objects, text) {
			t.Errorf("an object has the authority of the one that was saved, %s", what)
		}
	}
	const id = "docker exec worker1 cat /etc/machine-id"
	if saved.exec(ctx, t, "sh", "-c", id) == b.exec(ctx, t, "sh", "-c", id) {
		t.Error("a node has the same machine ID")
	}
	// A new pod trusts the new authority.
	b.kubectl(ctx, t, "delete", "pod", "--selector=app=kept", "--wait=false")
	b.kubectl(ctx, t, "rollout", "status", "deployment/kept", "--timeout=60s")
	log := b.kubectl(ctx, t, "logs", "--namespace=kube-system", "--selector=k8s-app=kube-dns", "--tail=-1")
	if strings.Contains(log, "x509") {
		t.Errorf("a pod does not trust the API server:\n%s", log)
	}
}

// get asks a cluster's API server for its nodes, as the user of a kubeconfig, whoever answers.
func get(ctx context.Context, t *testing.T, user kubeconfig.Config, b *box) (status int) {
	t.Helper()
	pair, err := tls.X509KeyPair(user.Cert, user.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.made.Kubeconfig.CA)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.made.Kubeconfig.Server+"/api/v1/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
