package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/load"
	"github.com/dind-cluster/dind-cluster/internal/docker/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

const classic = `{"DockerRootDir":"/d","Driver":"overlay2","DriverStatus":[["Backing Filesystem","extfs"]]}`
const containerd = `{"DockerRootDir":"/d","Driver":"overlayfs","DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]]}`

var absent = dockertest.Reply{Args: "image tag", Stderr: "Error: No such image", Exit: 1}

// none is the reply to the look at what had the tag before.
var none = dockertest.Reply{Args: "image inspect --format {{json .}} i:1", Stderr: "Error: No such image: i:1", Exit: 1}

var labels = map[string]string{"org.opencontainers.image.title": "i", "org.opencontainers.image.vendor": "us"}

func newImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := image.Open(imagetest.New(t, imagetest.Spec{Name: "i:1", Config: image.Config{Labels: labels}, Layers: []string{"one", "two", "three"}}))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// diffIDs returns what docker image inspect says of an image with the first n layers of img.
func diffIDs(t *testing.T, img v1.Image, n int, others ...string) string {
	t.Helper()
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, id := range cf.RootFS.DiffIDs[:n] {
		ids = append(ids, id.String())
	}
	text, err := json.Marshal(append(ids, others...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

func TestImage(t *testing.T) {
	img := newImage(t)
	info := dockertest.Reply{Args: "info", Stdout: classic}
	list := dockertest.Reply{Args: "image ls", Stdout: "sha256:a\nsha256:b\n"}
	loads := dockertest.Reply{Args: "image load", Stdout: "Loaded image: i:1\n"}
	refuse := dockertest.Reply{Args: "image load", Stderr: "open …/layer.tar: no such file or directory", Exit: 1, Times: 1}
	for name, c := range map[string]struct {
		replies []dockertest.Reply
		sent    int
		loads   int
	}{
		"present": {[]dockertest.Reply{{Args: "image tag"}}, 0, 0},
		"present in containerd's store": {
			[]dockertest.Reply{{Args: "image tag", Stderr: "No such image", Exit: 1, Times: 1}, {Args: "image tag"}}, 0, 0,
		},
		"nothing there": {[]dockertest.Reply{absent, info, {Args: "image ls"}, loads}, 3, 1},
		"two layers there": {
			[]dockertest.Reply{absent, info, list, {Args: "image inspect", Stdout: "null\n" + diffIDs(t, img, 1) + diffIDs(t, img, 2, "sha256:other")}, loads}, 1, 1,
		},
		"others there": {
			[]dockertest.Reply{absent, info, list, {Args: "image inspect", Stdout: diffIDs(t, img, 0, "sha256:other")}, loads}, 3, 1,
		},
		"one vanished while looking": {
			[]dockertest.Reply{absent, info, list, {Args: "image inspect", Stderr: "No such image: sha256:a", Exit: 1}, loads}, 3, 1,
		},
		"parts refused": {
			[]dockertest.Reply{absent, info, list, {Args: "image inspect", Stdout: diffIDs(t, img, 2)}, refuse, loads}, 3, 2,
		},
		"containerd's store": {[]dockertest.Reply{absent, {Args: "info", Stdout: containerd}, loads}, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, fake := dockertest.New(t, append([]dockertest.Reply{none}, c.replies...)...)
			r, err := load.Image(t.Context(), client, img, "i:1")
			if err != nil {
				t.Fatal(err)
			}
			if r.Layers != 3 || r.Sent != c.sent {
				t.Errorf("%d of %d layers sent, want %d", r.Sent, r.Layers, c.sent)
			}
			if (r.Bytes > 0) != (c.sent > 0) {
				t.Errorf("%d bytes sent", r.Bytes)
			}
			calls := slices.DeleteFunc(fake.Calls(), func(s string) bool { return !strings.HasPrefix(s, "image load") })
			if len(calls) != c.loads {
				t.Errorf("docker load was called %d times, want %d", len(calls), c.loads)
			}
		})
	}
}

// An earlier build is removed with its name, unless something else uses it.
func TestEarlierBuild(t *testing.T) {
	img := newImage(t)
	ours, err := json.Marshal(labels)
	if err != nil {
		t.Fatal(err)
	}
	const theirs = `{"org.opencontainers.image.title":"i","org.opencontainers.image.vendor":"somebody else"}`
	tagged := func(labels string) dockertest.Reply {
		return dockertest.Reply{Args: none.Args, Stdout: `{"Id":"sha256:old","RepoTags":["i:1"],"Config":{"Labels":` + labels + `}}`}
	}
	then := func(names string) dockertest.Reply {
		return dockertest.Reply{Args: "image inspect --format {{json .}} sha256:old", Stdout: `{"Id":"sha256:old",` + names + `}`}
	}
	const rm = "image rm sha256:old"
	for name, c := range map[string]struct {
		replies        []dockertest.Reply
		asked, removed bool
	}{
		"nameless":           {[]dockertest.Reply{tagged(string(ours)), then(`"RepoTags":[],"RepoDigests":[]`), {Args: rm}}, true, true},
		"in use":             {[]dockertest.Reply{tagged(string(ours)), then(`"RepoTags":[]`), {Args: rm, Stderr: "conflict: unable to delete: image is being used by stopped container", Exit: 1}}, true, false},
		"still the same":     {[]dockertest.Reply{tagged(string(ours)), then(`"RepoTags":["i:1"]`), {Args: rm}}, false, false},
		"has another name":   {[]dockertest.Reply{tagged(string(ours)), then(`"RepoTags":["mine:1"]`), {Args: rm}}, false, false},
		"has a digest":       {[]dockertest.Reply{tagged(string(ours)), then(`"RepoTags":[],"RepoDigests":["i@sha256:1"]`), {Args: rm}}, false, false},
		"gone":               {[]dockertest.Reply{tagged(string(ours)), {Args: "image inspect", Stderr: "No such image", Exit: 1}, {Args: rm}}, false, false},
		"somebody else's":    {[]dockertest.Reply{tagged(theirs), then(`"RepoTags":[]`), {Args: rm}}, false, false},
		"says nothing of it": {[]dockertest.Reply{tagged("null"), then(`"RepoTags":[]`), {Args: rm}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, fake := dockertest.New(t, append(c.replies, dockertest.Reply{Args: "image tag"})...)
			r, err := load.Image(t.Context(), client, img, "i:1")
			if err != nil {
				t.Fatal(err)
			}
			if asked := fake.Called("image rm"); asked != c.asked || r.Removed != c.removed {
				t.Errorf("asked to remove: %v, removed: %v, want %v, %v", asked, r.Removed, c.asked, c.removed)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	client, _ := dockertest.New(t, none, absent, dockertest.Reply{Args: "info", Stdout: classic}, dockertest.Reply{Args: "image ls"},
		dockertest.Reply{Args: "image load", Stderr: "no space left on device", Exit: 1})
	_, err := load.Image(t.Context(), client, newImage(t), "i:1")
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "load image i:1") {
		t.Errorf("error %v", err)
	}
}

func TestCancelled(t *testing.T) {
	client, fake := dockertest.New(t, none, absent, dockertest.Reply{Args: "info", Stdout: classic}, dockertest.Reply{Args: "image ls"},
		dockertest.Reply{Args: "image load", Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !fake.Called("image load") && ctx.Err() == nil {
		}
		cancel()
	}()
	if _, err := load.Image(ctx, client, newImage(t), "i:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}
