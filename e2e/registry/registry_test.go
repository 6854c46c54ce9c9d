package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dind-cluster/dind-cluster/image/imagetest"
)

// check pulls all that was published: every byte of every blob, against its digest. The first
// image, which is the smallest, is taken apart too.
func (s *server) check(ctx context.Context, t *testing.T, all []published) {
	t.Helper()
	options := s.remote(ctx, t)
	digests := map[string]v1.Hash{}
	for _, p := range all {
		digests[p.image] = p.digest
	}
	for i, p := range all {
		for _, tag := range p.tags {
			d, err := remote.Head(p.repo.Tag(tag), options...)
			if err != nil {
				t.Errorf("%s:%s: %v", p.repo, tag, err)
			} else if d.Digest != p.digest {
				t.Errorf("%s:%s is %v, want %v", p.repo, tag, d.Digest, p.digest)
			}
		}
		img, err := remote.Image(p.repo.Digest(p.digest.String()), options...)
		if err == nil {
			err = pull(img)
		}
		if err == nil {
			err = checkAnnotations(img, p, digests)
		}
		if err == nil && i == 0 {
			err = imagetest.Validate(img)
		}
		if err != nil {
			t.Errorf("%s: %v", p.repo, err)
		}
		if slices.ContainsFunc(docs, func(d string) bool { return strings.HasPrefix(d, p.image+"=") }) {
			s.checkSBOM(ctx, t, p)
		}
	}
}

// checkAnnotations looks for the commit, and for the base where that was pushed, too.
func checkAnnotations(img v1.Image, p published, digests map[string]v1.Hash) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	says := func(key string) string { return m.Annotations["org.opencontainers.image."+key] }
	if says("title") != p.image || says("revision") != commit {
		return fmt.Errorf("it says that it is %q of commit %q", says("title"), says("revision"))
	}
	base, _, _ := strings.Cut(says("base.name"), ":")
	if digest, found := digests[base]; found && says("base.digest") != digest.String() {
		return fmt.Errorf("it says that its base %s is %s, and that is %s", base, says("base.digest"), digest)
	}
	return nil
}

// pull reads an image. go-containerregistry compares what it reads with the digests.
func pull(img v1.Image) error {
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// checkSBOM finds the image's SBOM as anyone would: it is the image's one referrer.
func (s *server) checkSBOM(ctx context.Context, t *testing.T, p published) {
	t.Helper()
	options := s.remote(ctx, t)
	index, err := remote.Referrers(p.repo.Digest(p.digest.String()), append(options, remote.WithFilter("artifactType", "application/spdx+json"))...)
	if err != nil {
		t.Errorf("%s: %v", p.repo, err)
		return
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Errorf("%s has referrers %+v, want one: %v", p.repo, m, err)
		return
	}
	artifact, err := remote.Image(p.repo.Digest(m.Manifests[0].Digest.String()), options...)
	if err != nil {
		t.Errorf("%s: %v", p.repo, err)
		return
	}
	if err := validate.Image(artifact); err != nil {
		t.Errorf("the SBOM of %s: %v", p.repo, err)
	}
	layers, err := artifact.Layers()
	if err != nil || len(layers) != 1 {
		t.Errorf("the SBOM of %s has %d layers, want 1: %v", p.repo, len(layers), err)
		return
	}
	r, err := layers[0].Compressed()
	if err != nil {
		t.Errorf("%s: %v", p.repo, err)
		return
	}
	defer r.Close()
	var document struct{ SPDXVersion, Name, DocumentNamespace string }
	if err := json.NewDecoder(r).Decode(&document); err != nil || document.SPDXVersion == "" || !strings.Contains(document.Name, p.image) ||
		!strings.Contains(document.DocumentNamespace, p.digest.Hex) {
		t.Errorf("the SBOM of %s is %+v, %v", p.repo, document, err)
	}
}

// TestPush pushes the real images.
func TestPush(t *testing.T) {
	for what, c := range map[string]struct {
		kind
		names []string // all images are a gigabyte: once is enough
	}{
		"distribution":             {kind{secure: true}, nil},
		"Debian's docker-registry": {kind{debian: true}, []string{"dind-base", "dind-node"}},
	} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			s := start(t, c.kind)
			first := s.mustPush(ctx, t, c.names, "--tag", "v1", "--tag", "v1-abc")
			all := parse(t, first.stdout)
			want := len(c.names)
			if c.names == nil {
				want = len(images)
			}
			if len(all) != want {
				t.Fatalf("%d images were pushed, want %d", len(all), want)
			}
			if first.mounted == "0" {
				t.Error("no blob was mounted")
			}
			s.check(ctx, t, all)

			// The best of three: the first one comes while the machine still writes a gigabyte to
			// its disk.
			best := time.Hour
			for range 3 {
				again := s.mustPush(ctx, t, c.names, "--tag", "v1", "--tag", "v1-abc")
				if again.uploaded != "0" || again.bytes != "0" || again.mounted != "0" || again.stdout != first.stdout {
					t.Errorf("again: %+v", again)
				}
				best = min(best, again.took)
			}
			if best > 2*time.Second {
				t.Errorf("a push of nothing takes %v, want less than 2 s", best)
			}
			s.checkSkopeo(ctx, t, all[0])

			dry := s.push(ctx, t, c.names, "--tag", "v2", "--dry-run")
			if dry.err != nil || strings.Count(dry.stdout, "tag v2: new") != len(all) {
				t.Errorf("dry run: %v\n%s%s", dry.err, dry.stdout, dry.stderr)
			}
			if _, err := remote.Head(all[0].repo.Tag("v2"), s.remote(ctx, t)...); err == nil {
				t.Error("a dry run writes tags")
			}
		})
	}
}

func (s *server) checkSkopeo(ctx context.Context, t *testing.T, p published) {
	t.Helper()
	ref := "docker://" + p.repo.Tag(p.tags[0]).String()
	var seen struct {
		Digest, Os string
		RepoTags   []string
		Layers     []string
	}
	if err := json.Unmarshal([]byte(s.skopeo(ctx, t, "inspect", ref)), &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Digest != p.digest.String() || seen.Os != "linux" || len(seen.Layers) == 0 || !slices.Contains(seen.RepoTags, p.tags[1]) {
		t.Errorf("skopeo sees %+v, want %v", seen, p)
	}
	// It checks every digest on the way.
	dir := filepath.Join(t.TempDir(), "copy")
	s.skopeo(ctx, t, "copy", "--preserve-digests", ref, "dir:"+dir)
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	digest, _, err := v1.SHA256(strings.NewReader(string(manifest)))
	if err != nil || digest != p.digest {
		t.Errorf("skopeo's copy has digest %v, want %v: %v", digest, p.digest, err)
	}
}

// TestRefused meets registries that do not take images, and says why.
func TestRefused(t *testing.T) {
	ctx := t.Context()
	refused := func(t *testing.T, s *server, want []string, env, args []string) {
		t.Helper()
		cmd := s.pushCommand(ctx, t, []string{"dind-base"}, args...)
		cmd.Env = append(cmd.Env, env...)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v, want exit status 1", err)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
		if strings.Contains(string(out), "hunter2") || strings.Contains(string(out), password) {
			t.Errorf("it shows a password:\n%s", out)
		}
		if tags, err := remote.List(mustRepo(t, s), s.remote(ctx, t)...); err == nil && len(tags) > 0 {
			t.Errorf("tags were written: %q", tags)
		}
	}
	t.Run("password", func(t *testing.T) {
		for _, k := range []kind{{secure: true}, {secure: true, debian: true}} {
			s := start(t, k)
			refused(t, s, []string{"wrong user name or password: 401", "REGISTRY_USERNAME"}, []string{"REGISTRY_USERNAME=" + user, "REGISTRY_PASSWORD=hunter2"}, nil)
			refused(t, s, []string{"wants credentials: 401", "docker login"}, []string{"DOCKER_CONFIG=" + t.TempDir()}, nil)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		for _, k := range []kind{{readOnly: true}, {readOnly: true, debian: true}} {
			refused(t, start(t, k), []string{"read-only: 405", "No tag was written"}, nil, nil)
		}
	})
	t.Run("disk full", func(t *testing.T) {
		for _, k := range []kind{{smallDisk: true}, {smallDisk: true, debian: true}} {
			refused(t, start(t, k), []string{"no space left", "No tag was written"}, nil, nil)
		}
	})
	t.Run("gone", func(t *testing.T) {
		s := start(t, kind{})
		s.kill()
		refused(t, s, []string{"refuses connections"}, nil, nil)
	})
	t.Run("deadline", func(t *testing.T) {
		refused(t, start(t, kind{}), []string{"not finished within 20ms"}, nil, []string{"--timeout", "20ms"})
	})
}

func mustRepo(t *testing.T, s *server) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(s.host + "/team/dind-base")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// TestRegistryRestarts kills the registry while images are pushed to it, and starts it again: the
// push goes on.
func TestRegistryRestarts(t *testing.T) {
	ctx := t.Context()
	s := start(t, kind{})
	cmd := s.pushCommand(ctx, t, []string{"dind-base", "dind-node"}, "--tag", "v1")
	out := &output{found: make(chan string, 1)}
	var stdout strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// In the middle of blobs.
	for !hasUploads(t, s) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("no upload begins:\n%s", out)
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.kill()
	time.Sleep(500 * time.Millisecond)
	s.up(t)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("pushed in %.2f s, with a registry that was gone for half a second in between:\n%s", time.Since(begin).Seconds(), out)
	s.check(ctx, t, parse(t, stdout.String()))
}

func hasUploads(t *testing.T, s *server) bool {
	t.Helper()
	found, err := filepath.Glob(s.path("data/docker/registry/v2/repositories/team/*/_uploads/*/data"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(found, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 1<<20
	})
}

// killer kills a process shortly after it has said that so many steps are done.
type killer struct {
	cmd   *exec.Cmd
	steps int
	late  time.Duration
}

func (k *killer) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if bytes.Contains(line, []byte("] + ")) {
			if k.steps--; k.steps == 0 {
				time.AfterFunc(k.late, func() { _ = k.cmd.Process.Kill() })
			}
		}
	}
	return len(p), nil
}

// TestKilled kills pushes at random moments, from the first blobs to the tags. What tags there are
// point at complete images.
func TestKilled(t *testing.T) {
	ctx := t.Context()
	s := start(t, kind{debian: true})
	names := []string{"dind-base", "dind-node"}
	all := s.mustPush(ctx, t, names, "--tag", "v1")
	s.check(ctx, t, parse(t, all.stdout))
	steps := strings.Count(all.stderr, "] + ")
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d steps, seed %d", steps, seed)
	random := rand.New(rand.NewPCG(seed, 3))
	const rounds = 6
	for round := range rounds {
		// Nothing is there yet.
		path := fmt.Sprintf("%s/round%d", s.host, round)
		cmd := s.pushCommand(ctx, t, names, "--tag", "v1", "--registry", path)
		k := &killer{cmd: cmd, steps: 1 + (steps*round+random.IntN(steps))/rounds, late: time.Duration(random.IntN(20)) * time.Millisecond}
		after := k.steps
		cmd.Stderr = k
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		tags := 0
		for _, image := range names {
			repo, err := name.NewRepository(path + "/" + image)
			if err != nil {
				t.Fatal(err)
			}
			img, err := remote.Image(repo.Tag("v1"), s.remote(ctx, t)...)
			if err != nil {
				if !isNotFound(err) {
					t.Fatal(err)
				}
				continue
			}
			tags++
			if err := validate.Image(img, validate.Fast); err != nil {
				t.Errorf("round %d: %s:v1: %v", round, repo, err)
			}
		}
		t.Logf("round %d: killed %v after step %d: %d tags", round, k.late, after, tags)
	}
	last := parse(t, s.mustPush(ctx, t, names, "--tag", "v1", "--registry", fmt.Sprintf("%s/round%d", s.host, rounds-1)).stdout)
	s.check(ctx, t, last)
}

func isNotFound(err error) bool {
	return strings.Contains(err.Error(), http.StatusText(http.StatusNotFound)) || strings.Contains(err.Error(), "MANIFEST_UNKNOWN") || strings.Contains(err.Error(), "NAME_UNKNOWN")
}
