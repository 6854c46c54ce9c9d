package forwarder

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/cluster/forward"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

func TestPodProcess(t *testing.T) {
	proc := t.TempDir()
	for pid, cgroup := range map[int]string{
		1:  "0::/init.scope\n",
		70: "12:cpu:/docker/abc/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod11aa_22.slice/cri-containerd-x.scope/docker/nested\n",
		71: "0::/docker/abc/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod11aa_22.slice/cri-containerd-x.scope\n",
		72: "0::/docker/abc/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod11aa_22.slice/cri-containerd-y.scope\n",
		73: "0::/docker/abc/kubepods/besteffort/pod33bb-44/y\n",
	} {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte(cgroup), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[string]int{"11aa-22": 71, "33bb-44": 73, "55cc-66": 0} {
		if got, err := podProcess(proc, uid); got != want || (err == nil) != (want != 0) {
			t.Errorf("%s: got %d, %v; want %d", uid, got, err, want)
		}
	}
}

func TestDial(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "here")
			conn.Close()
		}
	}()
	port := listener.Addr().(*net.TCPAddr).Port
	objects := map[string]string{
		"/api/v1/namespaces/default/services/web": `{"spec":{"ports":[{"name":"dns","port":53,"protocol":"UDP"},{"name":"http","port":80,"protocol":"TCP"}]}}`,
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dweb": fmt.Sprintf(
			`{"items":[{"ports":[{"name":"http","port":%d,"protocol":"TCP"}],"endpoints":[{"addresses":["127.0.0.1"]},{"addresses":["192.0.2.1"],"conditions":{"ready":false}}]}]}`, port),
		"/api/v1/namespaces/default/services/outside": `{"spec":{"type":"ExternalName"}}`,
		"/api/v1/namespaces/default/services/empty":   `{"spec":{"ports":[{"port":80,"protocol":"TCP"}]}}`,
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dempty": `{"items":[]}`,
		"/api/v1/namespaces/x/pods/p": `{"metadata":{"name":"p"},"spec":{"containers":[{"ports":[{"name":"http","containerPort":8080}]}]}}`,
		"/apis/apps/v1/namespaces/default/deployments/d": `{"spec":{"selector":{"matchLabels":{"b":"1","a":"2"},"matchExpressions":[
			{"key":"e","operator":"In","values":["x","y"]},{"key":"f","operator":"Exists"},{"key":"g","operator":"DoesNotExist"}]}}}`,
		"/api/v1/namespaces/default/pods?labelSelector=%21g%2Ca%3D2%2Cb%3D1%2Ce+in+%28x%2Cy%29%2Cf": `{"items":[
			{"metadata":{"name":"young","creationTimestamp":"2026-01-02T00:00:00Z"},"spec":{"containers":[{"ports":[{"name":"http","containerPort":2}]}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}},
			{"metadata":{"name":"old","creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"containers":[{"ports":[{"name":"http","containerPort":1}]}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}},
			{"metadata":{"name":"unready","creationTimestamp":"2025-01-01T00:00:00Z"}}]}`,
		"/api/v1/nodes/n": `{"status":{"addresses":[{"type":"Hostname","address":"n"},{"type":"InternalIP","address":"127.0.0.1"}]}}`,
	}
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := objects[r.URL.String()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, text)
	}))
	defer web.Close()
	api, err := kubeapi.New(kubeconfig.Config{Server: web.URL, CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{API: api, NodePID: func(context.Context, string) (int, error) { return os.Getpid(), nil }}
	for _, test := range []struct {
		target forward.Target
		want   string // what comes, or a part of the error
	}{
		{forward.Target{Kind: "service", Name: "web", Port: "80"}, "here"},
		{forward.Target{Kind: "service", Name: "web", Port: "http"}, "here"},
		{forward.Target{Kind: "service", Name: "web", Port: "http", Look: true}, "80"},
		{forward.Target{Kind: "service", Name: "web", Port: "53"}, "service/web: it has no TCP port 53: there are 53 dns, 80 http"},
		{forward.Target{Kind: "service", Name: "wbe", Port: "53"}, "service/wbe: there is none of that name"},
		{forward.Target{Kind: "service", Name: "outside", Port: "53"}, "something outside the cluster"},
		{forward.Target{Kind: "service", Name: "empty", Port: "80"}, "no ready endpoints"},
		{forward.Target{Kind: "service", Name: "empty", Port: "80", Look: true}, "80"},
		{forward.Target{Kind: "pod", Namespace: "x", Name: "p", Port: "http", Look: true}, "8080"},
		{forward.Target{Kind: "pod", Namespace: "x", Name: "p", Port: "9", Look: true}, "9"},
		{forward.Target{Kind: "pod", Namespace: "x", Name: "p", Port: "https", Look: true}, `pod/p in namespace x: pod p has no port "https": there are http`},
		{forward.Target{Kind: "deployment", Name: "d", Port: "http", Look: true}, "1"},
		{forward.Target{Kind: "node", Name: "n", Port: strconv.Itoa(port)}, "here"},
		{forward.Target{Kind: "node", Name: "n", Port: "http"}, `port "http": want 1 to 65535`},
		{forward.Target{Kind: "cronjob", Name: "n", Port: "1"}, `"cronjob" has no ports`},
	} {
		data, err := json.Marshal(test.target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		conn, err := f.Dial(t.Context(), data)
		if err != nil {
			got = err.Error()
		} else {
			text, _ := io.ReadAll(conn)
			got = string(text)
			conn.Close()
		}
		if err == nil && got != test.want || !strings.Contains(got, test.want) {
			t.Errorf("%+v: got %q, want %q", test.target, got, test.want)
		}
	}
}
