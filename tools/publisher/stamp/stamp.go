// Package stamp writes into images' manifests which commit they were built from.
//
// Bazel finds the commit (scripts/workspace-status) and hands it over when images are pushed, not
// when they are built: so no layer and no config depends on it. A pushed manifest is the built one
// with one annotation more.
package stamp

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/dind-cluster/dind-cluster/image"
)

// Revision is the annotation with the commit (OCI image specification): all its digits, with
// "-dirty" when the checkout had changes.
const Revision = "org.opencontainers.image.revision"

// length of a commit in a tag, in hexadecimal digits.
const length = 12

// dirty ends the commit of sources with changes.
const dirty = "-dirty"

var commit = regexp.MustCompile(`^[0-9a-f]{40,64}(-dirty)?$`)

// ReadCommit reads the commit from the output of scripts/workspace-status, as Bazel keeps it: lines
// with a key, a blank and a value. If there is none, the error says why.
func ReadCommit(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading Bazel's status: %w", err)
	}
	return parseCommit(string(text))
}

func parseCommit(text string) (string, error) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case key == "STABLE_COMMIT" && commit.MatchString(value):
			return value, nil
		case key == "STABLE_COMMIT":
			return "", fmt.Errorf("%q is not a commit", value)
		case key == "STABLE_NO_COMMIT":
			return "", errors.New(value)
		}
	}
	return "", errors.New("scripts/workspace-status found none")
}

// Short is a commit as tags have it: its first twelve digits, and "-dirty".
func Short(commit string) string {
	digits, isDirty := strings.CutSuffix(commit, dirty)
	digits = digits[:min(len(digits), length)]
	if isDirty {
		return digits + dirty
	}
	return digits
}

// Stamper stamps images with one commit.
type Stamper struct {
	commit string
	// stamped are the digests that manifests have got, by those that they had.
	stamped map[string]string
}

// New makes a Stamper. Manifests name their bases by digest, so it needs the manifests of all bases
// that are not among the images: each after its own base.
func New(commit string, bases ...[]byte) (*Stamper, error) {
	s := &Stamper{commit: commit, stamped: map[string]string{}}
	for _, manifest := range bases {
		if _, err := s.manifest(manifest); err != nil {
			return nil, fmt.Errorf("stamping a base: %w", err)
		}
	}
	return s, nil
}

// Image stamps an image. Its bases have to be stamped before it.
func (s *Stamper) Image(img v1.Image) (v1.Image, error) {
	built, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	manifest, err := s.manifest(built)
	if err != nil {
		return nil, err
	}
	return &stamped{img, manifest}, nil
}

func (s *Stamper) manifest(built []byte) ([]byte, error) {
	m, err := v1.ParseManifest(bytes.NewReader(built))
	if err != nil {
		return nil, fmt.Errorf("parsing a manifest: %w", err)
	}
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[Revision] = s.commit
	if base, found := s.stamped[m.Annotations[image.BaseDigest]]; found {
		m.Annotations[image.BaseDigest] = base
	}
	var out bytes.Buffer
	// As it is built: without HTML's escapes.
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	manifest := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	s.stamped[digest(built)] = digest(manifest)
	return manifest, nil
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// stamped is an image with another manifest. Config and layers are the same, byte for byte.
type stamped struct {
	v1.Image
	manifest []byte
}

func (s *stamped) RawManifest() ([]byte, error)    { return s.manifest, nil }
func (s *stamped) Manifest() (*v1.Manifest, error) { return partial.Manifest(s) }
func (s *stamped) Digest() (v1.Hash, error)        { return partial.Digest(s) }
func (s *stamped) Size() (int64, error)            { return partial.Size(s) }
