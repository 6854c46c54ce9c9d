// Package ocilayout says where things are in an OCI image layout
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md).
package ocilayout

import v1 "github.com/google/go-containerregistry/pkg/v1"

// Blob returns the path of a blob.
func Blob(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }
