// Package mirror lets nodes without a network pull images, for specs whose pods insist on a pull:
// it serves the images of an archive as a registry, and tells the nodes' containerd to ask it
// first.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/image/archive"
)

// Mirror is a running registry that can only be read. It has the images of an archive under the
// names that they have there, but for the registry's: it stands for all of those (Hosts).
type Mirror struct {
	// Address is where it listens: host:port.
	Address string
	// Hosts are the registries that the images' names begin with, sorted: registry.k8s.io.
	Hosts []string

	archive *archive.Archive
	server  *http.Server
}

// Serve opens an archive (as docker save or an OCI tool writes it) and serves it over HTTP at the
// address, such as 10.250.0.1:0 for any free port, until Close.
func Serve(ctx context.Context, path, address string) (_ *Mirror, err error) {
	a, err := archive.Open(ctx, path, archive.Options{})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	blobs, err := blobsOf(a)
	if err != nil {
		return nil, err
	}
	handler := registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0)))
	hosts, err := publish(ctx, handler, a)
	if err != nil {
		return nil, fmt.Errorf("a registry of %s: %w", path, err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("a registry of %s: %w", path, err)
	}
	m := &Mirror{Address: listener.Addr().String(), Hosts: hosts, archive: a}
	m.server = &http.Server{Handler: readOnly(handler), ReadHeaderTimeout: 10 * time.Second}
	go m.server.Serve(listener)
	return m, nil
}

// Close ends the registry, and whatever a node is just pulling.
func (m *Mirror) Close() error { return errors.Join(m.server.Close(), m.archive.Close()) }

// publish writes the images' manifests to the registry, which has their blobs, and returns the
// registries' names. It does so as any client would, through an address that only it knows and that
// is gone afterwards.
func publish(ctx context.Context, handler http.Handler, a *archive.Archive) ([]string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	defer server.Close()
	var hosts []string
	for _, image := range a.Images {
		for _, n := range image.Names {
			tag, err := name.NewTag(n, name.StrictValidation)
			if err != nil {
				continue // a digest: pulls by it find the manifest under its tag
			}
			hosts = append(hosts, tag.RegistryStr())
			here, err := name.NewTag(fmt.Sprintf("%s/%s:%s", listener.Addr(), tag.RepositoryStr(), tag.TagStr()), name.Insecure)
			if err != nil {
				return nil, err
			}
			if err := remote.Write(here, image, remote.WithContext(ctx)); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// readOnly refuses writes.
func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this registry can only be read", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// blobs are an archive's layers and configs by their digests. It implements registry.BlobHandler
// and registry.BlobStatHandler.
type blobs map[v1.Hash]blob

type blob struct {
	size int64
	open func() (io.ReadCloser, error)
}

func blobsOf(a *archive.Archive) (blobs, error) {
	b := blobs{}
	for _, image := range a.Images {
		for _, layer := range image.Blobs() {
			digest, _ := layer.Digest()
			size, _ := layer.Size()
			b[digest] = blob{size, layer.Compressed}
		}
		digest, err := image.ConfigName()
		if err != nil {
			return nil, err
		}
		config, err := image.RawConfigFile()
		if err != nil {
			return nil, err
		}
		b[digest] = blob{int64(len(config)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil }}
	}
	return b, nil
}

// Stat implements registry.BlobStatHandler.
func (b blobs) Stat(_ context.Context, _ string, h v1.Hash) (int64, error) {
	if blob, ok := b[h]; ok {
		return blob.size, nil
	}
	return 0, registry.ErrNotFound
}

// Get implements registry.BlobHandler.
func (b blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	if blob, ok := b[h]; ok {
		return blob.open()
	}
	return nil, registry.ErrNotFound
}
