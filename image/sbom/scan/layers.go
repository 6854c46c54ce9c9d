package scan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Layers reads all layers of an image, each once, several at a time, and compares them with their
// digests.
func Layers(ctx context.Context, img v1.Image) ([]*Archive, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	sizes := make([]int64, len(layers))
	order := make([]int, len(layers))
	for i, l := range layers {
		order[i] = i
		if sizes[i], err = l.Size(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	// The largest first, so that none of them is alone at the end.
	slices.SortStableFunc(order, func(a, b int) int { return int(min(max(sizes[b]-sizes[a], -1), 1)) })
	all := make([]*Archive, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range order {
		g.Go(func() error {
			var err error
			all[i], err = layer(ctx, fmt.Sprintf("layer %d", i), layers[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return all, nil
}

func layer(ctx context.Context, name string, l v1.Layer) (*Archive, error) {
	want, err := l.Digest()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r, err := l.Compressed()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer r.Close()
	sum := sha256.New()
	a, err := Blob(ctx, name, io.TeeReader(r, sum))
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return nil, fmt.Errorf("%s is damaged: its digest is sha256:%s, but the image's manifest says %s", name, got, want)
	}
	return a, nil
}
