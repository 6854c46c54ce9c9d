package e2e

import (
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/image/load"
)

// TestReplacedImage loads builds of an image one after the other: those before do not stay without
// a name, unless something needs them.
func TestReplacedImage(t *testing.T) {
	ctx, m := newMachine(t)
	tag := m.run + ":1"
	client := m.launcher.Docker
	bring := func(content string) string {
		t.Helper()
		labels := map[string]string{"org.opencontainers.image.title": m.run, "org.opencontainers.image.vendor": "dind-cluster"}
		img, err := image.Open(imagetest.New(t, imagetest.Spec{
			Name: tag, Layers: []string{"same", content}, Config: image.Config{Labels: labels, Entrypoint: []string{"/" + content}},
		}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := load.Image(ctx, client, img, tag); err != nil {
			t.Fatal(err)
		}
		loaded, err := client.InspectImage(ctx, tag)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := cleanup(t)
			defer cancel()
			_ = client.Do(ctx, "clean up", "image", "rm", "--force", loaded.ID)
		})
		return loaded.ID
	}
	check := func(what, id string, want bool) {
		t.Helper()
		all, err := client.Output(ctx, "list images", "image", "ls", "--all", "--quiet", "--no-trunc")
		if err != nil {
			t.Fatal(err)
		}
		if there := strings.Contains(string(all), id); there != want {
			t.Errorf("%s is there: %v, want %v", what, there, want)
		}
	}
	first := bring("first")
	check("the image, loaded twice,", bring("first"), true)
	second := bring("second")
	check("the one that was replaced", first, false)

	container := m.run + "-user"
	t.Cleanup(func() { m.remove(t, container) })
	if _, err := client.Create(ctx, "--name", container, tag); err != nil {
		t.Fatal(err)
	}
	third := bring("third")
	check("the one with a container", second, true)
	other := m.run + ":other"
	if err := client.Do(ctx, "name an image", "image", "tag", tag, other); err != nil {
		t.Fatal(err)
	}
	bring("fourth")
	check("the one with another name", third, true)
}
