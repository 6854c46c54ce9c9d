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

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	// jsonLimit bounds manifests and configs, which are read into memory.
	jsonLimit = 16 << 20
	// depthLimit bounds indexes in indexes.
	depthLimit = 4

	annotationImageName = "io.containerd.image.name"
	annotationRefName   = "org.opencontainers.image.ref.name"

	dockerZstdLayer types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// reader finds the images in an archive's files.
type reader struct {
	archive  string
	files    files
	platform v1.Platform

	found []*Image
	other []string // platforms that we passed by
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
			return nil, fmt.Errorf("%s has no image for %s, only for %s", r.archive, r.platform.String(), strings.Join(r.other, ", "))
		}
		return nil, fmt.Errorf("%s has no image in it", r.archive)
	}
	return r.found, nil
}

// layout reads an OCI layout. Newer docker-save archives are one too.
func (r *reader) layout() error {
	marker, err := r.json("oci-layout")
	if err != nil {
		return err
	}
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(marker, &version); err != nil || version.Version != "1.0.0" {
		return fmt.Errorf("%s: oci-layout does not say version 1.0.0: %q", r.archive, marker)
	}
	raw, err := r.json("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return &MissingError{Archive: r.archive, Blob: "index.json"}
	} else if err != nil {
		return err
	}
	if err := r.index("index.json", raw, nil, 0); err != nil {
		return err
	}
	return r.namesFromDockerSave()
}

// index adds the images of an index that fit the platform.
func (r *reader) index(name string, raw []byte, names []string, depth int) error {
	if depth > depthLimit {
		return fmt.Errorf("%s: indexes are nested more than %d deep", r.archive, depthLimit)
	}
	idx, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", r.archive, name, err)
	}
	for _, desc := range idx.Manifests {
		if !desc.MediaType.IsImage() && !desc.MediaType.IsIndex() {
			continue // an artifact, a signature
		}
		if desc.Platform != nil && !desc.Platform.Satisfies(r.platform) {
			if desc.Platform.OS != "unknown" { // attestations are for unknown/unknown
				r.other = append(r.other, desc.Platform.String())
			}
			continue
		}
		own, err := r.annotatedNames(desc.Annotations)
		if err != nil {
			return err
		}
		if len(own) == 0 {
			own = names
		}
		what := "manifest"
		if desc.MediaType.IsIndex() {
			what = "index"
		}
		raw, err := r.promised(what, desc)
		if err != nil {
			return err
		}
		if desc.MediaType.IsIndex() {
			err = r.index(what+" "+desc.Digest.String(), raw, own, depth+1)
		} else {
			err = r.image(desc, raw, own)
		}
		if err != nil {
			return err
		}
	}
	return nil
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

// image adds the image that a verified OCI or Docker manifest describes.
func (r *reader) image(desc v1.Descriptor, raw []byte, names []string) error {
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("%s: manifest %s: %w", r.archive, desc.Digest, err)
	}
	if !manifest.Config.MediaType.IsConfig() {
		return nil // an artifact
	}
	config, err := r.promised("config", manifest.Config)
	if err != nil {
		return err
	}
	diffIDs, err := r.diffIDs(manifest.Config.Digest, config, len(manifest.Layers))
	if err != nil {
		return err
	}
	c := &core{manifest: raw, config: config, mediaType: desc.MediaType}
	for n, ld := range manifest.Layers {
		b, err := r.blob(blobPath(ld.Digest), ld.Digest)
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
	return r.add(c, names)
}

// add adds an image, or only its names when it is there already.
func (r *reader) add(c *core, names []string) error {
	img, err := partial.CompressedToImage(c)
	if err != nil {
		return err
	}
	for _, have := range r.found {
		if raw, err := have.RawManifest(); err == nil && bytes.Equal(raw, c.manifest) {
			for _, n := range names {
				if !slices.Contains(have.Names, n) {
					have.Names = append(have.Names, n)
				}
			}
			return nil
		}
	}
	r.found = append(r.found, &Image{Image: img, Names: slices.Clone(names), layers: c.layers})
	return nil
}

func (r *reader) readDockerSave() (tarball.Manifest, error) {
	raw, err := r.json("manifest.json")
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
		diffIDs, err := r.diffIDs(configID, config, len(d.Layers))
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
		if err := r.add(c, names); err != nil {
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

// diffIDs returns the digests of a config's uncompressed layers.
func (r *reader) diffIDs(id v1.Hash, config []byte, layers int) ([]v1.Hash, error) {
	cf, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, fmt.Errorf("%s: config %s: %w", r.archive, id, err)
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
	head := make([]byte, sniffLen)
	n, err := io.ReadFull(rc, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%s: %s: %w", r.archive, b.name, err)
	}
	l := &Layer{archive: r.archive, blob: b, digest: digest, diffID: diffID, mediaType: mt, compression: compressionOf(head[:n])}
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
	b, err := r.blob(blobPath(desc.Digest), desc.Digest)
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

// json reads a file that is found by its own name. Its absence is an fs.ErrNotExist.
func (r *reader) json(name string) ([]byte, error) {
	b, err := r.files.blob(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	return r.read(b)
}

func (r *reader) read(b *blob) ([]byte, error) {
	if b.size > jsonLimit {
		return nil, fmt.Errorf("%s: %s has %d bytes; a manifest or config may have %d", r.archive, b.name, b.size, jsonLimit)
	}
	rc, err := b.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.archive, err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(io.LimitReader(rc, jsonLimit))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", r.archive, b.name, err)
	}
	return raw, nil
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

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
		return "", fmt.Errorf("image name %q: %w", name, err)
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
