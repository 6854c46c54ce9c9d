package containerd

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// binaryVariable names the containerd to test with: a path, or in Bazel's tests a path in the
// runfiles.
const binaryVariable = "CONTAINERD_BINARY"

func containerdBinary(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containerd needs root")
	}
	return binary(t, binaryVariable, "containerd")
}

// binary finds a program: where the variable says, else on the PATH.
func binary(t *testing.T, variable, name string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		if dir := os.Getenv("TEST_SRCDIR"); dir != "" && !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s on the PATH nor in %s", name, variable)
	}
	return path
}

// daemon is a containerd of the test's own.
type daemon struct {
	socket string
	client *client.Client
	ctx    context.Context
	// stop ends it before the test does.
	stop func()
}

// start runs a containerd on directories of its own; it stops with the test. Before it starts, it
// waits for after.
func start(t *testing.T, after time.Duration) *daemon {
	t.Helper()
	return startOn(t, t.TempDir(), after)
}

// startOn runs a containerd that has its images in a folder.
func startOn(t *testing.T, root string, after time.Duration) *daemon {
	t.Helper()
	bin := containerdBinary(t)
	dir, err := os.MkdirTemp("", "ctrd") // a unix socket's path may not be long
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "run", "c.sock")
	config := fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
  address = %q
[ttrpc]
  address = %q
`, root, dir+"/state", socket, socket+".ttrpc")
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(bin, "-c", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	started := make(chan error, 1)
	time.AfterFunc(after, func() { started <- cmd.Start() })
	d := &daemon{socket: socket, ctx: namespaces.WithNamespace(context.Background(), namespace)}
	d.stop = sync.OnceFunc(func() {
		if d.client != nil {
			d.client.Close()
		}
		if err := <-started; err != nil {
			t.Errorf("containerd: %v", err)
			return
		}
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Logf("containerd's log:\n%s", log.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(d.stop)
	if err := waitForSocket(context.Background(), socket, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if d.client, err = client.New(socket, client.WithDefaultNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return d
}

// load loads archives as the program does, and returns what it printed.
func (d *daemon) load(t *testing.T, ctx context.Context, o Options, paths ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o.Address, o.Wait, o.Progress = d.socket, time.Second, progress.New(&out)
	r, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for _, p := range paths {
		go func() {
			a, err := archive.Open(ctx, p, archive.Options{SpoolDir: t.TempDir()})
			if err == nil {
				err = r.Load(ctx, a)
				a.Close()
			}
			errs <- err
		}()
	}
	var all []error
	for range paths {
		all = append(all, <-errs)
	}
	return out.String(), errors.Join(append(all, r.Close())...)
}

// state lists everything that containerd has, for a comparison.
func (d *daemon) state(t *testing.T) string {
	t.Helper()
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.client.ImageService().List(d.ctx)
	check(err)
	for _, i := range list {
		add("image %s %s %v", i.Name, i.Target.Digest, i.Labels)
	}
	check(d.client.ContentStore().Walk(d.ctx, func(i content.Info) error {
		add("content %s %v", i.Digest, i.Labels)
		return nil
	}))
	ingests, err := d.client.ContentStore().ListStatuses(d.ctx)
	check(err)
	for _, i := range ingests {
		add("ingest %s", i.Ref)
	}
	check(d.client.SnapshotService(snapshotter).Walk(d.ctx, func(_ context.Context, i snapshots.Info) error {
		add("snapshot %s %s", i.Kind, i.Name)
		return nil
	}))
	held, err := d.client.LeasesService().List(d.ctx)
	check(err)
	for _, l := range held {
		add("lease %s", l.ID)
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// removeAll removes all images, and fails the test if anything of them is left.
func (d *daemon) removeAll(t *testing.T) {
	t.Helper()
	list, err := d.client.ImageService().List(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if err := d.client.ImageService().Delete(d.ctx, i.Name, images.SynchronousDelete()); err != nil {
			t.Fatal(err)
		}
	}
	d.collect(t)
	if rest := d.state(t); rest != "" {
		t.Errorf("left behind:\n%s", rest)
	}
}

// collect runs containerd's garbage collection.
func (d *daemon) collect(t *testing.T) {
	t.Helper()
	l, err := d.client.LeasesService().Create(d.ctx, leases.WithRandomID())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.client.LeasesService().Delete(d.ctx, l, leases.SynchronousDelete); err != nil {
		t.Fatal(err)
	}
}

// file reads a file of an image as a container would see it.
func (d *daemon) file(t *testing.T, ref, path string) (content []byte, err error) {
	t.Helper()
	img, err := d.client.GetImage(d.ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := img.IsUnpacked(d.ctx, snapshotter); err != nil || !ok {
		t.Fatalf("%s is not unpacked: %v", ref, err)
	}
	ids, err := img.RootFS(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	sn := d.client.SnapshotService(snapshotter)
	mounts, err := sn.View(d.ctx, "view", chainID(ids))
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Remove(d.ctx, "view")
	merr := mount.WithTempMount(d.ctx, mounts, func(root string) error {
		content, err = os.ReadFile(filepath.Join(root, path))
		return nil
	})
	if merr != nil {
		t.Fatal(merr)
	}
	return content, err
}

// layer is an uncompressed layer of files, and of directories, whose names end in a slash.
func layer(t *testing.T, files map[string]string) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		kind := byte(tar.TypeReg)
		if strings.HasSuffix(name, "/") {
			kind = tar.TypeDir
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Size: int64(len(content)), Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(tw, content)
	}
	tw.Close()
	return static.NewLayer(buf.Bytes(), types.DockerUncompressedLayer)
}

func image(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func save(t *testing.T, refs map[string]v1.Image) string { return saveIn(t, t.TempDir(), refs) }

// saveIn writes the images to a file of a folder.
func saveIn(t *testing.T, dir string, refs map[string]v1.Image) string {
	t.Helper()
	tags := map[name.Tag]v1.Image{}
	for n, img := range refs {
		tag, err := name.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	path := filepath.Join(dir, "image.tar")
	if err := tarball.MultiWriteToFile(path, tags); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	d := start(t, 0)
	ctx := context.Background()
	base := layer(t, map[string]string{"etc/kept": "kept", "etc/removed": "removed", "etc/removed2": "removed"})
	top := layer(t, map[string]string{"bin/app": strings.Repeat("app", 50_000)})
	// The first of these knows its directories, so it is unpacked aside; the second does not.
	aside := layer(t, map[string]string{"etc/": "", "etc/.wh.removed": "", "etc/aside": "aside"})
	onTop := layer(t, map[string]string{"etc/.wh.removed2": "", "etc/onTop": "onTop"})
	app := image(t, base, aside, top, onTop)
	packed, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	oci := t.TempDir()
	p, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(packed, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "example.org/packed:1"})); err != nil {
		t.Fatal(err)
	}
	sources := []string{
		save(t, map[string]v1.Image{"registry.k8s.io/app:1": app, "app:latest": app}),
		save(t, map[string]v1.Image{"registry.k8s.io/other:1": image(t, base)}),
		save(t, map[string]v1.Image{"registry.k8s.io/pause:3.10.2": image(t, layer(t, map[string]string{"pause": "pause"}))}),
		oci,
	}
	if out, err := d.load(t, ctx, Options{}, sources...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.collect(t)

	list, err := d.client.ImageService().List(d.ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]images.Image{}
	for _, i := range list {
		got[i.Name] = i
	}
	id, _ := app.ConfigName()
	for _, n := range []string{"registry.k8s.io/app:1", "docker.io/library/app:latest", id.String(), "registry.k8s.io/other:1", "registry.k8s.io/pause:3.10.2", "example.org/packed:1"} {
		if got[n].Labels["io.cri-containerd.image"] != "managed" {
			t.Errorf("%s: labels %v", n, got[n].Labels)
		}
		if pinned := got[n].Labels["io.cri-containerd.pinned"] == "pinned"; pinned != strings.Contains(n, "pause") {
			t.Errorf("%s: labels %v", n, got[n].Labels)
		}
		if n != "" {
			if ready, _, _, _, err := images.Check(d.ctx, d.client.ContentStore(), got[n].Target, platforms.Default()); err != nil || !ready {
				t.Errorf("%s: the CRI plugin would not take it: %v", n, err)
			}
		}
	}
	if content, err := d.file(t, "registry.k8s.io/app:1", "bin/app"); err != nil || len(content) != 150_000 {
		t.Errorf("bin/app: %d bytes, %v", len(content), err)
	}
	for _, n := range []string{"kept", "aside", "onTop"} {
		if content, err := d.file(t, "registry.k8s.io/app:1", "etc/"+n); err != nil || string(content) != n {
			t.Errorf("etc/%s: %q, %v", n, content, err)
		}
	}
	for _, n := range []string{"removed", "removed2"} {
		if _, err := d.file(t, "registry.k8s.io/app:1", "etc/"+n); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("etc/%s: %v", n, err)
		}
	}
	if _, err := d.file(t, "example.org/packed:1", "none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("example.org/packed:1: %v", err)
	}

	before := d.state(t)
	if strings.Contains(before, "lease") || strings.Contains(before, "ingest") {
		t.Errorf("left behind:\n%s", before)
	}
	t.Run("again", func(t *testing.T) {
		out, err := d.load(t, ctx, Options{}, sources...)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out, "already there"); n != len(sources) {
			t.Errorf("%d of %d images were already there:\n%s", n, len(sources), out)
		}
		if after := d.state(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
	t.Run("damaged", func(t *testing.T) { testDamaged(t, d, base) })
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r, err := New(ctx, Options{Address: d.socket})
		if err != nil {
			t.Fatal(err)
		}
		a, err := archive.Open(ctx, save(t, map[string]v1.Image{"cancelled:1": image(t, layer(t, map[string]string{"big": strings.Repeat("x", 30<<20)}))}), archive.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		r.slots = make(chan struct{}) // nobody gets to work
		time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("the user's signal")) })
		if err := r.Load(ctx, a); err == nil {
			t.Error("loaded although cancelled")
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if after := d.state(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
	t.Run("new image for a name", func(t *testing.T) {
		changed := image(t, base, layer(t, map[string]string{"bin/app": "new"}))
		if _, err := d.load(t, ctx, Options{}, save(t, map[string]v1.Image{"registry.k8s.io/app:1": changed})); err != nil {
			t.Fatal(err)
		}
		if content, err := d.file(t, "registry.k8s.io/app:1", "bin/app"); err != nil || string(content) != "new" {
			t.Errorf("bin/app: %q, %v", content, err)
		}
	})
	t.Run("removed images leave nothing", func(t *testing.T) {
		d.removeAll(t)
	})
}

// testDamaged loads damaged archives, together with good ones that share layers with them.
func testDamaged(t *testing.T, d *daemon, base v1.Layer) {
	ctx := context.Background()
	before := d.state(t)
	shared := layer(t, map[string]string{"shared": strings.Repeat("s", 100_000)})
	img := image(t, base, shared, layer(t, map[string]string{"a": strings.Repeat("a", 100_000)}))
	good, err := os.ReadFile(save(t, map[string]v1.Image{"damaged:1": img, "damaged:2": image(t, shared)}))
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "bad.tar")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unchanged := func(what string) {
		t.Helper()
		if after := d.state(t); after != before {
			t.Fatalf("%s: before:\n%s\nafter:\n%s", what, before, after)
		}
	}
	for n := 1; n < len(good)-1024; n += len(good) / 23 {
		if _, err := d.load(t, ctx, Options{}, write(good[:n])); err == nil || !strings.Contains(err.Error(), "bad.tar") {
			t.Errorf("the first %d bytes of %d: %v", n, len(good), err)
		}
		unchanged(fmt.Sprintf("the first %d bytes", n))
	}
	at := bytes.Index(good, []byte("aaaaaaaaaaaaaaaaaaaaa"))
	header := bytes.LastIndex(good[:at], []byte("ustar"))
	for what, offset := range map[string]int{"content": at + 5000, "a tar header in the layer": header} {
		bad := bytes.Clone(good)
		bad[offset] ^= 1
		_, err := d.load(t, ctx, Options{}, write(bad))
		var digest *archive.DigestError
		if !errors.As(err, &digest) || !strings.Contains(err.Error(), "bad.tar") {
			t.Errorf("%s: %v", what, err)
		}
		unchanged(what)
	}

	// Side by side with a good archive that has the same layers, a few times, for the order varies.
	for i := range 5 {
		bad := bytes.Clone(good)
		bad[at+5000] ^= 1
		name := fmt.Sprintf("docker.io/library/good:%d", i)
		l := layer(t, map[string]string{"own": name})
		ok := save(t, map[string]v1.Image{name: image(t, base, shared, l)})
		_, err := d.load(t, ctx, Options{}, write(bad), ok)
		if err == nil || strings.Contains(err.Error(), name) {
			t.Errorf("got %v", err)
		}
		if content, err := d.file(t, name, "own"); err != nil || string(content) != name {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		if strings.Contains(d.state(t), "damaged:") {
			t.Errorf("the damaged archive was loaded:\n%s", d.state(t))
		}
		img, err := d.client.ImageService().Get(d.ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.Config(d.ctx, d.client.ContentStore(), platforms.Default())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{name, cfg.Digest.String()} {
			if err := d.client.ImageService().Delete(d.ctx, n, images.SynchronousDelete()); err != nil {
				t.Fatal(err)
			}
		}
		d.collect(t)
		unchanged("good and bad together, after removing the good one")
	}
}

func TestWaitForContainerd(t *testing.T) {
	start(t, 300*time.Millisecond) // waits with waitForSocket, in a directory that is not there yet
	_, err := New(context.Background(), Options{Address: filepath.Join(t.TempDir(), "none.sock"), Wait: 200 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "none.sock") || !strings.Contains(err.Error(), "is the service running?") {
		t.Errorf("got %v", err)
	}
}

func TestNoName(t *testing.T) {
	d := start(t, 0)
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(image(t, layer(t, map[string]string{"a": "a"}))); err != nil {
		t.Fatal(err)
	}
	if _, err := d.load(t, context.Background(), Options{}, dir); err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("got %v", err)
	}
	if rest := d.state(t); rest != "" {
		t.Errorf("left behind:\n%s", rest)
	}
}

func chainID(ids []digest.Digest) string { return identity.ChainID(ids).String() }
