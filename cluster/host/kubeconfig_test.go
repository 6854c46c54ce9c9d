package host

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// The API server's port is one of the engine's machine. Where that is not this one, the user learns
// how to get there, once the cluster is up; unless a tunnel is already there.
func TestReach(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	served := server.Listener.Addr().(*net.TCPAddr).Port
	unused, err := freePort(loopback)
	if err != nil {
		t.Fatal(err)
	}

	for _, test := range []struct {
		name   string
		engine string
		port   int
		ca     string
		want   string // what is said; nothing if empty
	}{
		{name: "here", engine: "unix:///var/run/docker.sock", port: served, ca: string(ca)},
		{name: "there, with a tunnel", engine: "ssh://me@192.0.2.7", port: served, ca: string(ca)},
		{name: "there by ssh", engine: "ssh://me@192.0.2.7", port: unused, ca: string(ca),
			want: fmt.Sprintf("on another machine (ssh://me@192.0.2.7): for kubectl here, keep a tunnel to it open: `ssh -N -L %[1]d:127.0.0.1:%[1]d me@192.0.2.7`", unused)},
		{name: "there by ssh at another port", engine: "ssh://192.0.2.7:2222", port: unused, ca: string(ca),
			want: fmt.Sprintf("`ssh -N -L %[1]d:127.0.0.1:%[1]d -p 2222 192.0.2.7`", unused)},
		{name: "there by tcp", engine: "tcp://192.0.2.1:2376", port: unused, ca: string(ca),
			want: fmt.Sprintf("`ssh -N -L %[1]d:127.0.0.1:%[1]d 192.0.2.1`", unused)},
		{name: "there, another server here", engine: "ssh://192.0.2.7", port: served, ca: "", want: "keep a tunnel to it open"},
		{name: "a socket that leads elsewhere", engine: "unix:///var/run/docker.sock", port: unused, ca: string(ca),
			want: "kubectl does not reach the API server from here (dial tcp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, engine, log := launcher(t)
			engine.Host = test.engine
			i := image(nil)
			i.Exec = func(_ io.Reader, out, _ io.Writer, _ ...string) int {
				fmt.Fprintf(out, `{clusters: [{name: c, cluster: {server: "https://x", certificate-authority-data: %q}}], users: [{name: u, user: {}}]}`,
					base64.StdEncoding.EncodeToString([]byte(test.ca)))
				return 0
			}
			engine.AddImage(i)
			run(t, l, "--name", "box", "--publish", fmt.Sprintf("127.0.0.1:%d:6443/tcp", test.port), tag)
			l.Progress = progress.New(log)
			config, err := l.Kubeconfig(t.Context(), "box")
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("https://127.0.0.1:%d", test.port); config.Server != want {
				t.Errorf("got server %s, want %s", config.Server, want)
			}
			if got := log.String(); !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
				t.Errorf("it says %q, want %q", got, test.want)
			}
		})
	}
}

// What can be told of this machine says nothing of another one.
func TestCreateElsewhere(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for host, want := range map[string][]string{
		"unix:///var/run/docker.sock": {"of 127.0.0.1 is in use"},
		"ssh://192.0.2.7":             {`no image "dind-cluster:v2"`}, // as far as `docker create`
	} {
		l, engine, _ := launcher(t)
		engine.Host = host
		r := request(t)
		r.Image, r.APIPort = Present("dind-cluster:v2"), busy.Addr().(*net.TCPAddr).Port
		_, err := l.Create(t.Context(), r)
		dockertest.CheckError(t, err, want...)
		nothingLeft(t, engine, r)
	}
}
