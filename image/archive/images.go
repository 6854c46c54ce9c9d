package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/internal/compression"
	"github.com/dind-cluster/dind-cluster/internal/ocilayout"
)

const (
	// jsonLimit bounds an index, a manifest or a config, which are read into memory. It is what containerd takes of a registry:
	// https://github.com/containerd/containerd/blob/v2.3.7/core/remotes/docker/resolver.go
	jsonLimit = 4 * 1048 * 1048
	// jsonTotal bounds all of an archive's.
	jsonTotal = 64 << 20
	// depthLimit bounds indexes in indexes.
	depthLimit = 4
	// layersLimit is how many layers the kernel stacks, OVL_MAX_STACK.
	// https://github.com/torvalds/linux/blob/v6.18/fs/overlayfs/params.h
	layersLimit = 500

	annotationImageName = "io.containerd.image.name"
	annotationRefName   = "org.opencontainers.image.ref.name"

	dockerZstdLayer types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// reader finds the images in an archive's files.
type reader struct {
	archive  string
	files    files
	platform platforms.Platform
	matches  platforms.MatchComparer

	found []*Image
	other []string // platforms that we passed by
	json  int64    // bytes of JSON that have been read
}

func (r *reader) images() ([]*Image, error) {
	err := r.layout()
	if errors.Is(err, fs.ErrNotExist) {
		err = r.dockerSave()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is %w: it has neither an index.json (OCI) nor a manifest.json (docker save)", r.archive, ErrNotArchive)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(r.found) == 0 {
		if len(r.other) > 0 {
			return nil, r.foreign("", r.other)
		}
		return nil, fmt.Errorf("%s has no image in it", r.archive)
	}
	named := map[string]*Image{}
	for _, img := range r.found {
		if err := img.CheckNames(img.Names); err != nil {
			return nil, fmt.Errorf("%s: %w", r.archive, err)
		}
		for _, n := range img.Names {
			if named[n] != nil {
				return nil, fmt.Errorf("%s has two images for %s that are named %s", r.archive, platforms.Format(r.platform), n)
			}
			named[n] = img
		}
	}
	return r.found, nil
}

// foreign is the error for an image, or with an empty name an archive, that is for other machines only.
func (r *reader) foreign(name string, others []string) error {
	slices.Sort(others)
	others = slices.Compact(others)
	if name != "" {
		name = ": " + name
	}
	return fmt.Errorf("%s%s has no image for %s, only for %s", r.archive, name, platforms.Format(r.platform), strings.Join(others[:min(len(others), 20)], ", "))
}

// layout reads an OCI layout. Newer docker-save archives are one too.
func (r *reader) layout() error {
	marker, err := r.file("oci-layout")
	if err != nil {
		return err
	}
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(marker, &version); err != nil || version.Version != "1.0.0" {
		return fmt.Errorf("%s: oci-layout says version %.10q, not 1.0.0", r.archive, version.Version)
	}
	raw, err := r.file("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return &MissingError{Archive: r.archive, Blob: "index.json"}
	} else if err != nil {
		return err
	}
	idx, err := r.index("index.json", types.OCIImageIndex, raw)
	if err != nil {
		return err
	}
	// What has the same name is one image for several platforms, and so is an index.
	var all []*choice
	byName := map[string]*choice{}
	for _, desc := range idx.Manifests {
		names, err := r.annotatedNames(desc.Annotations)
		if err != nil {
			return err
		}
		key := strings.Join(names, "")
		c := byName[key]
		if c == nil || key == "" && desc.MediaType.IsIndex() {
			c = &choice{names: names}
			all = append(all, c)
			if key != "" || !desc.MediaType.IsIndex() {
				byName[key] = c
			}
		}
		if err := r.collect(c, desc, nil); err != nil {
			return err
		}
		c.entries++
	}
	for _, c := range all {
		if err := r.choose(c); err != nil {
			return err
		}
	}
	return r.namesFromDockerSave()
}

// choice is an image of which there may be several, for different platforms.
type choice struct {
	names      []string
	entries    int // in the index that begins it
	candidates []candidate
	others     []string
	missing    error
}

// candidate is a manifest that this platform can use.
type candidate struct {
	desc     v1.Descriptor
	platform *platforms.Platform // nil where nobody says
	indexes  []Index             // that lead to it
	entry    int
}

// collect finds the manifests that fit the platform. What the archive lacks is no fault unless it would be needed.
func (r *reader) collect(c *choice, desc v1.Descriptor, indexes []Index) error {
	if len(indexes) > depthLimit {
		return fmt.Errorf("%s: indexes are nested more than %d deep", r.archive, depthLimit)
	}
	if !desc.MediaType.IsImage() && !desc.MediaType.IsIndex() {
		return nil // an artifact, a signature
	}
	found := candidate{desc: desc, indexes: indexes, entry: c.entries}
	if desc.Platform != nil {
		p := platformOf(desc.Platform)
		if !r.matches.Match(p) {
			if p.OS != "unknown" { // attestations are for unknown/unknown
				c.others = append(c.others, platforms.Format(p))
			}
			return nil
		}
		found.platform = &p
	}
	var missing *MissingError
	switch {
	case desc.MediaType.IsIndex():
		raw, err := r.promised("index", desc)
		if errors.As(err, &missing) {
			c.missing = err
			return nil
		} else if err != nil {
			return err
		}
		idx, err := r.index("index "+desc.Digest.String(), desc.MediaType, raw)
		if err != nil {
			return err
		}
		inner := append(slices.Clip(indexes), Index{desc.MediaType, desc.Digest, raw})
		for _, d := range idx.Manifests {
			if err := r.collect(c, d, inner); err != nil {
				return err
			}
		}
		return nil
	case desc.Platform == nil:
		_, config, err := r.manifest(desc)
		if errors.As(err, &missing) {
			c.missing = err
			return nil
		} else if err != nil || config == nil {
			return err
		}
		cf, err := r.parseConfig(desc.Digest, config)
		if err != nil {
			return err
		}
		if found.platform = configPlatform(cf); found.platform != nil && !r.matches.Match(*found.platform) {
			c.others = append(c.others, platforms.Format(*found.platform))
			return nil
		}
	}
	c.candidates = append(c.candidates, found)
	return nil
}

// choose adds the image that fits best, as containerd chooses: of equals the first. Only of those without a name, which are
// side by side in an archive's own index, equals are different images.
// https://github.com/containerd/containerd/blob/v2.3.7/core/images/image.go
func (r *reader) choose(c *choice) error {
	if len(c.candidates) == 0 {
		switch {
		case c.missing != nil:
			return c.missing
		case len(c.others) > 0 && len(c.names) > 0:
			return r.foreign(c.names[0], c.others)
		}
		r.other = append(r.other, c.others...)
		return nil
	}
	better := func(a, b candidate) bool {
		if a.platform == nil || b.platform == nil {
			return a.platform != nil && b.platform == nil
		}
		return r.matches.Less(*a.platform, *b.platform)
	}
	slices.SortStableFunc(c.candidates, func(a, b candidate) int {
		switch {
		case better(a, b):
			return -1
		case better(b, a):
			return 1
		}
		return 0
	})
	best := c.candidates[0]
	taken := map[int]bool{}
	for _, found := range c.candidates {
		if better(best, found) {
			break
		}
		if taken[found.entry] {
			continue
		}
		taken[found.entry] = true
		if err := r.image(found, c.names); err != nil {
			return err
		}
	}
	return nil
}

// index parses an index.
func (r *reader) index(name string, mt types.MediaType, raw []byte) (*v1.IndexManifest, error) {
	if err := r.checkType(name, mt, raw); err != nil {
		return nil, err
	}
	idx, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", r.archive, name, err)
	}
	return idx, nil
}

// checkType compares what refers to a manifest or index with what it says itself. Where they disagree, different programs
// see different things: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
func (r *reader) checkType(name string, mt types.MediaType, raw []byte) error {
	var doc struct {
		MediaType                 types.MediaType
		Config, Layers, Manifests json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("%s: %s: %w", r.archive, name, err)
	}
	if doc.MediaType != "" && doc.MediaType != mt {
		return fmt.Errorf("%s: %s says that it is of type %.100q, but what refers to it says %s", r.archive, name, doc.MediaType, mt)
	}
	if mt.IsIndex() && (doc.Config != nil || doc.Layers != nil) {
		return fmt.Errorf("%s: %s is the manifest of an image, but what refers to it says %s", r.archive, name, mt)
	}
	if mt.IsImage() && doc.Manifests != nil {
		return fmt.Errorf("%s: %s is an index, but what refers to it says %s", r.archive, name, mt)
	}
	return nil
}

func platformOf(p *v1.Platform) platforms.Platform {
	return platforms.Platform{
		OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures,
	}
}

// configPlatform is the platform that an image's config names, nil if none.
func configPlatform(cf *v1.ConfigFile) *platforms.Platform {
	if cf.Architecture == "" {
		return nil
	}
	p := platforms.Normalize(platforms.Platform{OS: cf.OS, Architecture: cf.Architecture, Variant: cf.Variant})
	return &p
}

func (r *reader) annotatedNames(annotations map[string]string) ([]string, error) {
	name := annotations[annotationImageName]
	if name == "" {
		// The ref name may be a bare tag, which names nothing without its repository.
		if name = annotations[annotationRefName]; !strings.ContainsAny(name, ":/") {
			return nil, nil
		}
	}
	normal, err := Normalise(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	return []string{normal}, nil
}

// manifest reads a manifest, and its config: nil if this is no image but an artifact.
func (r *reader) manifest(desc v1.Descriptor) (raw, config []byte, err error) {
	if raw, err = r.promised("manifest", desc); err != nil {
		return nil, nil, err
	}
	if err := r.checkType("manifest "+desc.Digest.String(), desc.MediaType, raw); err != nil {
		return nil, nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: manifest %s: %w", r.archive, desc.Digest, err)
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, nil, nil
	}
	config, err = r.promised("config", m.Config)
	return raw, config, err
}

// image adds the image that was found.
func (r *reader) image(found candidate, names []string) error {
	raw, config, err := r.manifest(found.desc)
	if err != nil || config == nil {
		return err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s: manifest %s: %w", r.archive, found.desc.Digest, err)
	}
	cf, err := r.parseConfig(manifest.Config.Digest, config)
	if err != nil {
		return err
	}
	diffIDs, err := r.diffIDs(manifest.Config.Digest, cf, len(manifest.Layers))
	if err != nil {
		return err
	}
	c := &core{manifest: raw, config: config, mediaType: found.desc.MediaType}
	for n, ld := range manifest.Layers {
		b, err := r.blob(ocilayout.Blob(ld.Digest), ld.Digest)
		if err != nil {
			return err
		}
		l, err := r.layer(b, ld.Digest, diffIDs[n], ld.MediaType)
		if err != nil {
			return err
		}
		if b.size != ld.Size {
			// Say both digests, as for any other damage; hash what is there.
			if err := l.Verify(context.Background()); err != nil {
				return err
			}
			return fmt.Errorf("%s: layer %s has %d bytes, but the image's manifest says %d", r.archive, b.name, b.size, ld.Size)
		}
		c.layers = append(c.layers, l)
	}
	return r.add(&Image{Names: names, Indexes: found.indexes}, c)
}

// add adds an image, or only its names when it is there already.
func (r *reader) add(img *Image, c *core) error {
	for _, have := range r.found {
		if raw, err := have.RawManifest(); err != nil || !bytes.Equal(raw, c.manifest) {
			continue
		}
		switch {
		case len(img.Names) == 0:
			return nil
		case len(have.Names) == 0:
			have.Names, have.Indexes = slices.Clone(img.Names), img.Indexes
			return nil
		case slices.EqualFunc(have.Indexes, img.Indexes, func(a, b Index) bool { return a.Digest == b.Digest }):
			for _, n := range img.Names {
				if !slices.Contains(have.Names, n) {
					have.Names = append(have.Names, n)
				}
			}
			return nil
		}
	}
	var err error
	if img.Image, err = partial.CompressedToImage(c); err != nil {
		return err
	}
	img.Names, img.layers = slices.Clone(img.Names), c.layers
	r.found = append(r.found, img)
	return nil
}

func (r *reader) readDockerSave() (tarball.Manifest, error) {
	raw, err := r.file("manifest.json")
	if err != nil {
		return nil, err
	}
	var m tarball.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%s: manifest.json: %w", r.archive, err)
	}
	return m, nil
}

// dockerSave reads an archive of `docker save`.
func (r *reader) dockerSave() error {
	manifest, err := r.readDockerSave()
	if err != nil {
		return err
	}
	for _, d := range manifest {
		names, err := normaliseAll(r.archive, d.RepoTags)
		if err != nil {
			return err
		}
		b, err := r.blob(d.Config, v1.Hash{})
		if err != nil {
			return err
		}
		config, err := r.read(b)
		if err != nil {
			return err
		}
		configID, _, _ := v1.SHA256(bytes.NewReader(config))
		if want, ok := digestInName(d.Config); ok && want != configID {
			return &DigestError{Archive: r.archive, Blob: "config " + d.Config, Promise: "its name", Want: want, Got: configID}
		}
		cf, err := r.parseConfig(configID, config)
		if err != nil {
			return err
		}
		if p := configPlatform(cf); p != nil && !r.matches.Match(*p) {
			if len(names) > 0 {
				return r.foreign(names[0], []string{platforms.Format(*p)})
			}
			r.other = append(r.other, platforms.Format(*p))
			continue
		}
		diffIDs, err := r.diffIDs(configID, cf, len(d.Layers))
		if err != nil {
			return err
		}
		m := v1.Manifest{
			SchemaVersion: 2,
			MediaType:     types.DockerManifestSchema2,
			Config:        v1.Descriptor{MediaType: types.DockerConfigJSON, Size: int64(len(config)), Digest: configID},
			Layers:        []v1.Descriptor{},
		}
		c := &core{config: config, mediaType: types.DockerManifestSchema2}
		for n, name := range d.Layers {
			b, err := r.blob(name, v1.Hash{})
			if err != nil {
				return err
			}
			l, err := r.layer(b, diffIDs[n], diffIDs[n], types.DockerUncompressedLayer)
			if err != nil {
				return err
			}
			if l.compression != "" {
				// The archive promises only the diff ID; the blob's own digest becomes part of the manifest.
				if l.digest, err = digestOf(b); err != nil {
					return err
				}
				l.mediaType = types.DockerLayer
				if l.compression == "zstd" {
					l.mediaType = dockerZstdLayer
				}
			}
			c.layers = append(c.layers, l)
			m.Layers = append(m.Layers, v1.Descriptor{MediaType: l.mediaType, Size: b.size, Digest: l.digest})
		}
		if c.manifest, err = json.Marshal(m); err != nil {
			return err
		}
		if err := r.add(&Image{Names: names, Made: true}, c); err != nil {
			return err
		}
	}
	return nil
}

// namesFromDockerSave names the images of an OCI layout whose index does not, when it is a docker-save archive as well.
func (r *reader) namesFromDockerSave() error {
	if !slices.ContainsFunc(r.found, func(i *Image) bool { return len(i.Names) == 0 }) {
		return nil
	}
	manifest, err := r.readDockerSave()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, img := range r.found {
		if len(img.Names) > 0 {
			continue
		}
		id, err := img.ConfigName()
		if err != nil {
			return err
		}
		for _, d := range manifest {
			if want, ok := digestInName(d.Config); ok && want == id {
				if img.Names, err = normaliseAll(r.archive, d.RepoTags); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *reader) parseConfig(id v1.Hash, raw []byte) (*v1.ConfigFile, error) {
	cf, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: config %s: %w", r.archive, id, err)
	}
	return cf, nil
}

// diffIDs returns the digests of a config's uncompressed layers.
func (r *reader) diffIDs(id v1.Hash, cf *v1.ConfigFile, layers int) ([]v1.Hash, error) {
	if layers > layersLimit {
		return nil, fmt.Errorf("%s: image %s has %d layers, and overlayfs stacks %d at most: build it with fewer, or squash it", r.archive, id, layers, layersLimit)
	}
	if len(cf.RootFS.DiffIDs) != layers {
		return nil, fmt.Errorf("%s: config %s lists %d layers, but the image's manifest %d", r.archive, id, len(cf.RootFS.DiffIDs), layers)
	}
	for _, d := range cf.RootFS.DiffIDs {
		if _, err := v1.NewHash(d.String()); err != nil {
			return nil, fmt.Errorf("%s: config %s: %w", r.archive, id, err)
		}
	}
	return cf.RootFS.DiffIDs, nil
}

func (r *reader) layer(b *blob, digest, diffID v1.Hash, mt types.MediaType) (*Layer, error) {
	rc, err := b.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	defer rc.Close()
	head := make([]byte, compression.HeadSize)
	n, err := io.ReadFull(rc, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: %s: %w", r.archive, b.name, err)
	}
	l := &Layer{archive: r.archive, blob: b, digest: digest, diffID: diffID, mediaType: mt, compression: compression.Of(head[:n])}
	if l.compression == "" && digest != diffID {
		// Either the layer is damaged at its very beginning, or manifest and config contradict each other.
		got, err := digestOf(b)
		if err != nil {
			return nil, err
		}
		if err := l.checkDigest(got); err != nil {
			return nil, err
		}
		return nil, l.CheckDiffID(got)
	}
	return l, nil
}

// promised reads a JSON blob and compares it with its descriptor.
func (r *reader) promised(what string, desc v1.Descriptor) ([]byte, error) {
	b, err := r.blob(ocilayout.Blob(desc.Digest), desc.Digest)
	if err != nil {
		return nil, err
	}
	raw, err := r.read(b)
	if err != nil {
		return nil, err
	}
	got, _, _ := v1.SHA256(bytes.NewReader(raw))
	if got != desc.Digest {
		return nil, &DigestError{Archive: r.archive, Blob: what + " " + b.name, Promise: "what refers to it", Want: desc.Digest, Got: got}
	}
	if desc.Size != int64(len(raw)) {
		return nil, fmt.Errorf("%s: %s %s has %d bytes, but what refers to it says %d", r.archive, what, b.name, len(raw), desc.Size)
	}
	return raw, nil
}

func (r *reader) blob(name string, want v1.Hash) (*blob, error) {
	if want != (v1.Hash{}) && want.Algorithm != "sha256" {
		return nil, fmt.Errorf("%s: %s: only sha256 digests are supported", r.archive, want)
	}
	b, err := r.files.blob(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Archive: r.archive, Blob: name, Want: want}
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	return b, nil
}

// file reads a file that is found by its own name. Its absence is an fs.ErrNotExist.
func (r *reader) file(name string) ([]byte, error) {
	b, err := r.files.blob(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	return r.read(b)
}

func (r *reader) read(b *blob) ([]byte, error) {
	if b.size > jsonLimit {
		return nil, fmt.Errorf("%s: %s has %d bytes; an index, manifest or config may have %d", r.archive, b.name, b.size, jsonLimit)
	}
	if r.json += b.size; r.json > jsonTotal {
		return nil, fmt.Errorf("%s: its indexes, manifests and configs have more than %d bytes together", r.archive, jsonTotal)
	}
	rc, err := b.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, b.size))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", r.archive, b.name, err)
	}
	return raw, nil
}

// digestInName finds the digest in a config's file name: HEX.json, sha256:HEX, blobs/sha256/HEX.
func digestInName(name string) (v1.Hash, bool) {
	name = strings.TrimSuffix(name, ".json")
	name = strings.TrimPrefix(strings.TrimPrefix(name, "blobs/sha256/"), "sha256:")
	h, err := v1.NewHash("sha256:" + name)
	return h, err == nil
}

func digestOf(b *blob) (v1.Hash, error) {
	rc, err := b.open()
	if err != nil {
		return v1.Hash{}, err
	}
	defer rc.Close()
	h := sha256.New()
	_, err = io.CopyBuffer(writerOnly{h}, rc, make([]byte, 256<<10))
	return hashOf(h), err
}

// Normalise completes an image's name as the runtimes know it: debian becomes docker.io/library/debian:latest.
func Normalise(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %.300q: %w", name, err)
	}
	return ref.String(), nil
}

func normaliseAll(archive string, names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		normal, err := Normalise(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
		if !slices.Contains(out, normal) {
			out = append(out, normal)
		}
	}
	return out, nil
}
