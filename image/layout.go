package image

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// NameAnnotations returns the annotations that name an image in an OCI layout: the OCI's, and
// containerd's for full names.
func NameAnnotations(name string) map[string]string {
	return map[string]string{
		"io.containerd.image.name":          name,
		"org.opencontainers.image.ref.name": name,
	}
}

// WriteLayout writes an OCI layout into a new or empty directory.
func WriteLayout(dir string, img v1.Image, name string) error {
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("writing OCI layout: %w", err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(NameAnnotations(name))); err != nil {
		return fmt.Errorf("writing OCI layout: %w", err)
	}
	return nil
}
