package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// uploadTries is how often one blob's upload is begun in all. A registry that fails at random does
// so in any of an upload's requests, and one with a body cannot simply be made again.
const uploadTries = 8

// Repository is one image's place in the registry.
type Repository struct {
	client *Client
	image  string
	name   name.Repository
}

// Name is the full name, as the user wrote its first part.
func (r *Repository) Name() string { return r.client.place.Name(r.image) }

// HasBlob reports whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, digest v1.Hash) (bool, error) {
	var has bool
	layer, err := r.client.puller.Layer(ctx, r.name.Digest(digest.String()))
	if err == nil {
		has, err = partial.Exists(layer)
	}
	if absent(err) {
		return false, nil
	}
	return has, r.client.explain(ctx, err, "looking for %s in %s", digest, r.Name())
}

// Manifest returns the digest of the manifest that a tag or digest stands for, and whether there is
// one.
func (r *Repository) Manifest(ctx context.Context, tagOrDigest string) (v1.Hash, bool, error) {
	d, err := r.client.puller.Head(ctx, r.reference(tagOrDigest))
	if absent(err) {
		return v1.Hash{}, false, nil
	}
	if err != nil {
		return v1.Hash{}, false, r.client.explain(ctx, err, "looking for %s in %s", tagOrDigest, r.Name())
	}
	return d.Digest, true, nil
}

// absent reports whether a look-up found nothing. Some registries do not distinguish what is
// missing from what is forbidden, and some give an answer without a digest, which is as good as
// none.
func absent(err error) bool {
	var answer *transport.Error
	var request *url.Error
	switch {
	case err == nil:
		return false
	case errors.As(err, &answer):
		return answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusForbidden
	}
	return !errors.As(err, &request) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (r *Repository) reference(tagOrDigest string) name.Reference {
	if _, err := v1.NewHash(tagOrDigest); err == nil {
		return r.name.Digest(tagOrDigest)
	}
	return r.name.Tag(tagOrDigest)
}

// Upload describes how a blob came into a repository.
type Upload struct {
	// Mounted is set if the blob was there in another repository.
	Mounted bool
	// Sent is how many bytes were sent, those of failed tries included.
	Sent int64
}

// Upload brings a blob into the repository, by mounting it from another one if the registry can. It
// calls sent, which may be nil, with the number of bytes as they go.
func (r *Repository) Upload(ctx context.Context, layer v1.Layer, from *Repository, sent func(n int)) (Upload, error) {
	digest, err := layer.Digest()
	if err != nil {
		return Upload{}, err
	}
	var total atomic.Int64
	ctx = withSent(ctx, func(n int) {
		total.Add(int64(n))
		if sent != nil {
			sent(n)
		}
	})
	what := layer
	if from != nil {
		what = &remote.MountableLayer{Layer: layer, Reference: from.name.Digest(digest.String())}
	}
	for try := 0; ; try++ {
		err = r.client.pusher.Upload(ctx, r.name, what)
		if err == nil || try+1 == uploadTries || ctx.Err() != nil || !beginAgain(err) {
			break
		}
		if sleep(ctx, r.client.tripper.pause(try)) != nil {
			break
		}
	}
	return Upload{Mounted: from != nil && total.Load() == 0, Sent: total.Load()},
		r.client.explain(ctx, err, "uploading %s to %s", digest, r.Name())
}

// beginAgain reports whether an upload may succeed when it starts anew: its body was cut off, or
// the registry lost it. All other requests have been made often enough by the tripper.
func beginAgain(err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) && answer.Request != nil {
		lost := slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable}, answer.StatusCode)
		switch answer.Request.Method {
		case http.MethodPatch:
			return lost || transientStatus(answer.StatusCode) && !diskFull(answer.Error())
		case http.MethodPut:
			return lost
		}
		return false
	}
	var request *url.Error
	return errors.As(err, &request) && request.Op == "Patch" && transientError(err, true)
}

// Put writes a manifest, whose blobs have to be there, under a tag or its digest. A manifest with a
// subject becomes findable as its referrer: by the registry or, where that has no API for
// referrers, in the fallback tag that the distribution specification defines.
func (r *Repository) Put(ctx context.Context, tagOrDigest string, manifest remote.Taggable) error {
	err := r.client.pusher.Put(ctx, r.reference(tagOrDigest), manifest)
	return r.client.explain(ctx, err, "writing %s to %s", tagOrDigest, r.Name())
}

// HasReferrer reports whether a manifest can be found as a referrer of another one.
func (r *Repository) HasReferrer(ctx context.Context, subject, referrer v1.Hash) (bool, error) {
	index, err := remote.Referrers(r.name.Digest(subject.String()), remote.Reuse(r.client.puller), remote.WithContext(ctx))
	var answer *transport.Error
	if absent(err) || errors.As(err, &answer) && answer.StatusCode != http.StatusUnauthorized && answer.StatusCode < 500 {
		return false, nil
	}
	if err != nil {
		return false, r.client.explain(ctx, err, "looking for referrers of %s in %s", subject, r.Name())
	}
	m, err := index.IndexManifest()
	if err != nil {
		return false, r.client.explain(ctx, err, "reading the referrers of %s in %s", subject, r.Name())
	}
	return slices.ContainsFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Digest == referrer }), nil
}
