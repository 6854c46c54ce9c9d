package push

import (
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// SPDX is the media type of an SBOM in SPDX's JSON format, as IANA has it.
const SPDX types.MediaType = "application/spdx+json"

// emptyConfig stands where a manifest needs a config and there is nothing to say (OCI image
// specification, "Guidance for an empty descriptor").
const (
	emptyConfig      = "{}"
	emptyConfigMedia = "application/vnd.oci.empty.v1+json"
)

// Attachment is a file that refers to an image: an OCI artifact with the image as its subject.
type Attachment struct {
	// Title is the file's name.
	Title        string
	manifest     []byte
	digest       v1.Hash
	file, config v1.Layer
}

// NewSBOM makes an attachment of an SBOM in SPDX's JSON format.
func NewSBOM(subject v1.Image, title string, content []byte) (*Attachment, error) {
	var document struct{ SPDXVersion string }
	if err := json.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	if document.SPDXVersion == "" {
		return nil, errors.New("no SPDX document: it has no spdxVersion")
	}
	return attach(subject, title, SPDX, content)
}

func attach(subject v1.Image, title string, media types.MediaType, content []byte) (*Attachment, error) {
	to, err := partial.Descriptor(subject)
	if err != nil {
		return nil, err
	}
	a := &Attachment{Title: title, file: static.NewLayer(content, media), config: static.NewLayer([]byte(emptyConfig), emptyConfigMedia)}
	file, err := partial.Descriptor(a.file)
	if err != nil {
		return nil, err
	}
	file.Annotations = map[string]string{"org.opencontainers.image.title": title}
	config, err := partial.Descriptor(a.config)
	if err != nil {
		return nil, err
	}
	// No creation time: the same file gives the same digest.
	a.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  string(media),
		Config:        *config,
		Layers:        []v1.Descriptor{*file},
		Subject:       &v1.Descriptor{MediaType: to.MediaType, Size: to.Size, Digest: to.Digest},
	})
	if err != nil {
		return nil, err
	}
	a.digest, err = partial.Digest(a)
	return a, err
}

// RawManifest implements remote.Taggable.
func (a *Attachment) RawManifest() ([]byte, error) { return a.manifest, nil }

// MediaType is the manifest's.
func (a *Attachment) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Digest is the manifest's.
func (a *Attachment) Digest() v1.Hash { return a.digest }
