package registry

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

// TestDocker pulls the images with the local Docker, and starts a cluster from what it has pulled.
func TestDocker(t *testing.T) {
	ctx := t.Context()
	l, err := host.New(testWriter{t})
	if err != nil {
		t.Fatal(err)
	}
	client := l.Docker
	if engine, err := client.Remote(ctx); err != nil {
		t.Fatal(err)
	} else if engine != nil {
		t.Skipf("the Docker engine is on another machine, %v, and the registry on this one's loopback", engine)
	}
	s := start(t, kind{secure: true})
	names := []string{"dind-base", "dind-cluster"}
	all := parse(t, s.mustPush(ctx, t, names, "--tag", "v1").stdout)
	// Docker trusts every registry on the loopback. It gets the password from a configuration of
	// its own.
	config := s.dockerConfig(t)
	for _, p := range all {
		ref := p.repo.Digest(p.digest.String()).String()
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			for _, name := range []string{ref, p.repo.Tag("v1").String()} {
				if err := client.Do(ctx, "remove image "+name, "image", "rm", name); err != nil && !strings.Contains(err.Error(), "No such image") {
					t.Error(err)
				}
			}
		})
		for _, name := range []string{ref, p.repo.Tag("v1").String()} {
			begin := time.Now()
			if err := client.Do(ctx, "pull "+name, "--config", config, "pull", "--quiet", name); err != nil {
				t.Fatal(err)
			}
			t.Logf("docker pull %s: %.1f s", name, time.Since(begin).Seconds())
		}
		img, err := remote.Image(p.repo.Digest(p.digest.String()), s.remote(ctx, t)...)
		if err != nil {
			t.Fatal(err)
		}
		id, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		out, err := client.Output(ctx, "look at "+ref, "image", "inspect", "--format", "{{.Id}}", ref)
		if err != nil {
			t.Fatal(err)
		}
		// A classic engine knows images by their config, one with containerd's store by their
		// manifest.
		if got := strings.TrimSpace(string(out)); got != id.String() && got != p.digest.String() {
			t.Errorf("%s is image %s, want %s", ref, got, id)
		}
		out, err = client.Output(ctx, "run "+ref, "run", "--rm", "--network", "none", "--entrypoint", "/usr/bin/cat", ref, "/etc/os-release")
		if err != nil || !strings.Contains(string(out), "Debian") {
			t.Errorf("%s says %q, %v", ref, out, err)
		}
	}

	// The last one is a whole cluster. What it runs cannot have come from anywhere else.
	box := "e2e-registry-" + strings.TrimPrefix(s.host, "127.0.0.1:")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := client.Remove(ctx, box); err != nil {
			t.Error(err)
		}
	})
	last := all[len(all)-1]
	begin := time.Now()
	request := host.Request{
		Image: host.Present(last.repo.Digest(last.digest.String()).String()),
		Name:  box, Nodes: 1, Wait: 3 * time.Minute, RunArgs: []string{"--network", "none"},
	}
	if _, err := l.Create(ctx, request); err != nil {
		t.Fatal(err)
	}
	t.Logf("a cluster from the pulled image is ready after %.1f s", time.Since(begin).Seconds())
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
