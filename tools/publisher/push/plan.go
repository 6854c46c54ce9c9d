// Package push brings images into a registry: first what is missing of their blobs, then their
// manifests, and only then the tags. At any moment a tag points at a complete image.
package push

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registry"
)

// Image is an image to push.
type Image struct {
	// Name is the last part of its name in the registry: dind-node.
	Name  string
	Tags  []string
	Image v1.Image
	// Attachments refer to the image.
	Attachments []*Attachment
}

// Plan is what a registry lacks.
type Plan struct {
	client  *registry.Client
	targets []*target
	blobs   []*blob
}

// target is an image and its place in the registry.
type target struct {
	Image
	repo        *registry.Repository
	digest      v1.Hash
	present     bool // the manifest
	tags        []*tag
	attachments []*attachment
}

type tag struct {
	name string
	now  v1.Hash // what it points at, if anything
}

type attachment struct {
	*Attachment
	present bool
}

// blob is a layer, config or attached file, once for all images that have it.
type blob struct {
	layer  v1.Layer
	digest v1.Hash
	size   int64
	// name describes it to the user.
	name string
	// of are the images that have it; lacking those of them whose repositories do not.
	of, lacking []*target
	// from is a repository that has it, to mount it from.
	from *registry.Repository
}

// NewPlan asks the registry what it has. Blobs may also be mounted from the siblings: images with
// the same path which are not pushed now, whether they are in the registry or not.
func NewPlan(ctx context.Context, client *registry.Client, images []Image, siblings []string) (*Plan, error) {
	p := &Plan{client: client}
	if err := p.describe(images); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, t := range p.targets {
		g.Go(func() (err error) {
			t.repo, err = client.Open(gctx, t.Name, registry.Push)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := p.look(ctx); err != nil {
		return nil, err
	}
	p.lookAtSiblings(ctx, siblings)
	return p, context.Cause(ctx)
}

// describe lists what the images consist of.
func (p *Plan) describe(images []Image) error {
	byDigest := map[v1.Hash]*blob{}
	add := func(t *target, l v1.Layer, name string) error {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		b := byDigest[digest]
		if b == nil {
			size, err := l.Size()
			if err != nil {
				return err
			}
			b = &blob{layer: l, digest: digest, size: size, name: name}
			byDigest[digest] = b
			p.blobs = append(p.blobs, b)
		}
		if !slices.Contains(b.of, t) {
			b.of = append(b.of, t)
		}
		return nil
	}
	for _, image := range images {
		t := &target{Image: image}
		if err := t.describe(add); err != nil {
			return fmt.Errorf("reading image %s: %w", image.Name, err)
		}
		p.targets = append(p.targets, t)
	}
	// What takes long starts first, so that nothing large is left to do alone.
	slices.SortStableFunc(p.blobs, func(a, b *blob) int { return cmp.Compare(b.size, a.size) })
	return nil
}

func (t *target) describe(add func(*target, v1.Layer, string) error) error {
	var err error
	if t.digest, err = t.Image.Image.Digest(); err != nil {
		return err
	}
	layers, err := t.Image.Image.Layers()
	if err != nil {
		return err
	}
	config, err := t.Image.Image.ConfigFile()
	if err != nil {
		return err
	}
	for i, l := range layers {
		name := fmt.Sprintf("layer %d", i+1)
		if len(config.History) == len(layers) && config.History[i].CreatedBy != "" {
			name = config.History[i].CreatedBy
		}
		if err := add(t, l, name); err != nil {
			return err
		}
	}
	l, err := partial.ConfigLayer(t.Image.Image)
	if err != nil {
		return err
	}
	if err := add(t, l, "the config of "+t.Name); err != nil {
		return err
	}
	for _, a := range t.Attachments {
		if err := errors.Join(add(t, a.file, a.Title), add(t, a.config, "the empty config of "+a.Title)); err != nil {
			return err
		}
		t.attachments = append(t.attachments, &attachment{Attachment: a})
	}
	for _, name := range t.Tags {
		t.tags = append(t.tags, &tag{name: name})
	}
	return nil
}

// look asks for every blob of every image. That a manifest is there proves nothing: a registry may
// have lost a blob, and this is how it gets it back.
func (p *Plan) look(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(registry.Lookups)
	type answer struct {
		target *target
		has    bool
	}
	answers := make([][]answer, len(p.blobs))
	for i, b := range p.blobs {
		answers[i] = make([]answer, len(b.of))
		for j, t := range b.of {
			g.Go(func() error {
				has, err := t.repo.HasBlob(ctx, b.digest)
				answers[i][j] = answer{t, has}
				return err
			})
		}
	}
	for _, t := range p.targets {
		g.Go(func() (err error) {
			_, t.present, err = t.repo.Manifest(ctx, t.digest.String())
			return err
		})
		for _, tag := range t.tags {
			g.Go(func() (err error) {
				tag.now, _, err = t.repo.Manifest(ctx, tag.name)
				return err
			})
		}
		for _, a := range t.attachments {
			g.Go(func() (err error) {
				a.present, err = t.repo.HasReferrer(ctx, t.digest, a.digest)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, b := range p.blobs {
		for _, a := range answers[i] {
			switch {
			case !a.has:
				b.lacking = append(b.lacking, a.target)
			case b.from == nil:
				b.from = a.target.repo
			}
		}
	}
	return nil
}

// lookAtSiblings finds sources for blobs that none of the images' own repositories has. It ignores
// errors: a sibling that cannot be read is as good as none.
func (p *Plan) lookAtSiblings(ctx context.Context, siblings []string) {
	var missing []*blob
	for _, b := range p.blobs {
		if len(b.lacking) > 0 && b.from == nil {
			missing = append(missing, b)
		}
	}
	for _, name := range siblings {
		if len(missing) == 0 {
			return
		}
		if slices.ContainsFunc(p.targets, func(t *target) bool { return t.Name == name }) {
			continue
		}
		repo, err := p.client.Open(ctx, name, registry.Pull)
		if err != nil {
			continue
		}
		has := make([]bool, len(missing))
		var g errgroup.Group
		g.SetLimit(registry.Lookups)
		for i, b := range missing {
			g.Go(func() error {
				has[i], _ = repo.HasBlob(ctx, b.digest)
				return nil
			})
		}
		_ = g.Wait()
		var still []*blob
		for i, b := range missing {
			if has[i] {
				b.from = repo
			} else {
				still = append(still, b)
			}
		}
		missing = still
	}
}

// Summary returns one line about what there is to do.
func (p *Plan) Summary() string {
	there, uploads, mounts, bytes := p.count(nil)
	parts := []string{fmt.Sprintf("%d there", there)}
	if uploads > 0 {
		parts = append(parts, fmt.Sprintf("%d to upload, %s", uploads, progress.Size(bytes)))
	}
	if mounts > 0 {
		parts = append(parts, fmt.Sprintf("%d to mount", mounts))
	}
	return fmt.Sprintf("%d blobs in %s: %s", there+uploads+mounts, plural(len(p.targets), "image"), strings.Join(parts, ", "))
}

// count counts the blobs of one image, or of all: a blob of two images twice. One that no
// repository has is uploaded to the first image's repository and mounted in the others.
func (p *Plan) count(of *target) (there, uploads, mounts int, bytes int64) {
	for _, b := range p.blobs {
		for _, t := range b.of {
			if of != nil && t != of {
				continue
			}
			switch {
			case !slices.Contains(b.lacking, t):
				there++
			case b.from == nil && b.lacking[0] == t:
				uploads++
				bytes += b.size
			default:
				mounts++
			}
		}
	}
	return there, uploads, mounts, bytes
}

// Describe writes what there is to do, for people to read.
func (p *Plan) Describe(w io.Writer) error {
	var err error
	line := func(format string, args ...any) {
		_, e := fmt.Fprintf(w, format+"\n", args...)
		err = errors.Join(err, e)
	}
	for _, t := range p.targets {
		there, uploads, mounts, bytes := p.count(t)
		line("%s@%s", t.repo.Name(), t.digest)
		line("  %s there, %d to upload (%d bytes), %d to mount", plural(there, "blob"), uploads, bytes, mounts)
		for _, b := range p.blobs {
			switch {
			case !slices.Contains(b.lacking, t):
			case b.from != nil:
				line("  mount %s from %s: %s, %s", b.digest, b.from.Name(), b.name, progress.Size(b.size))
			case b.lacking[0] == t:
				line("  upload %s: %s, %s", b.digest, b.name, progress.Size(b.size))
			default:
				line("  mount %s from %s: %s, %s", b.digest, b.lacking[0].repo.Name(), b.name, progress.Size(b.size))
			}
		}
		if !t.present {
			line("  write the manifest")
		}
		for _, a := range t.attachments {
			if !a.present {
				line("  attach %s: %s", a.Title, a.digest)
			}
		}
		for _, tag := range t.tags {
			switch tag.now {
			case t.digest:
				line("  tag %s: there", tag.name)
			case v1.Hash{}:
				line("  tag %s: new", tag.name)
			default:
				line("  tag %s: moves from %s", tag.name, tag.now)
			}
		}
	}
	return err
}

// Published returns the images of the plan, one line each: NAME@DIGEST TAG…
func (p *Plan) Published() string {
	var out strings.Builder
	for _, t := range p.targets {
		fmt.Fprintf(&out, "%s@%s %s\n", t.repo.Name(), t.digest, strings.Join(t.Tags, " "))
	}
	return out.String()
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
