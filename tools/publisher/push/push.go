package push

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registry"
)

// reportEvery is the pause between two lines on how much was sent.
const reportEvery = 15 * time.Second

// Stats counts what a push sent.
type Stats struct {
	// Uploaded and Mounted count blobs, Bytes what was sent of them.
	Uploaded, Mounted int
	Bytes             int64
}

// Push does what is planned: jobs blobs at a time, each part of the plan only after the one before
// is complete. Printer gets a line for each step. The error says which tags were written before it.
func (p *Plan) Push(ctx context.Context, jobs int, printer *progress.Printer) (Stats, error) {
	stats, err := p.upload(ctx, jobs, printer)
	if err == nil {
		err = p.writeManifests(ctx, jobs, printer)
	}
	if err == nil {
		err = p.attach(ctx, jobs, printer)
	}
	if err != nil {
		return stats, fmt.Errorf("%w\nNo tag was written", err)
	}
	return stats, p.tag(ctx, jobs, printer)
}

// upload brings all blobs to all images' repositories.
func (p *Plan) upload(ctx context.Context, jobs int, printer *progress.Printer) (Stats, error) {
	missing := slices.DeleteFunc(slices.Clone(p.blobs), func(b *blob) bool { return len(b.lacking) == 0 })
	if len(missing) == 0 {
		return Stats{}, nil
	}
	var sent, uploaded, mounted atomic.Int64
	_, _, _, total := p.count(nil)
	stop := report(printer, &sent, total)
	defer stop()

	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, b := range missing {
		g.Go(func() error {
			from := b.from
			for _, t := range b.lacking {
				done, err := p.uploadOne(ctx, b, t, from, &sent, printer)
				if err != nil {
					return err
				}
				if done.Mounted {
					mounted.Add(1)
				} else {
					uploaded.Add(1)
				}
				if from == nil {
					from = t.repo
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return Stats{Uploaded: int(uploaded.Load()), Mounted: int(mounted.Load()), Bytes: sent.Load()}, err
}

func (p *Plan) uploadOne(ctx context.Context, b *blob, t *target, from *registry.Repository, sent *atomic.Int64, printer *progress.Printer) (registry.Upload, error) {
	count := func(n int) { sent.Add(int64(n)) }
	if from != nil {
		done, err := t.repo.Upload(ctx, b.layer, from, count)
		if err == nil && !done.Mounted {
			printer.Printf("%s does not mount: %s was sent to %s, too (%s)", p.client.Place().Host(), b.name, t.Name, progress.Size(done.Sent))
		}
		return done, err
	}
	step := printer.Step("Uploading %s to %s", b.name, t.Name)
	done, err := t.repo.Upload(ctx, b.layer, nil, count)
	if err != nil {
		step.Fail("")
	} else {
		step.Done("%s", progress.Size(b.size))
	}
	return done, err
}

// report prints now and then how much was sent, until stop is called.
func report(printer *progress.Printer, sent *atomic.Int64, total int64) (stop func()) {
	done := make(chan struct{})
	go func() {
		start, ticker := time.Now(), time.NewTicker(reportEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				n := sent.Load()
				printer.Printf("%s of %s sent, %s/s", progress.Size(n), progress.Size(total), progress.Size(int64(float64(n)/time.Since(start).Seconds())))
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

// writeManifests writes the images' manifests, by their digests.
func (p *Plan) writeManifests(ctx context.Context, jobs int, printer *progress.Printer) error {
	todo := slices.DeleteFunc(slices.Clone(p.targets), func(t *target) bool { return t.present })
	return inSteps(ctx, jobs, printer, "Writing manifests", todo, func(ctx context.Context, t *target) error {
		return t.repo.Put(ctx, t.digest.String(), t.Image.Image)
	})
}

// attach writes what refers to the images. One image's attachments share the list of its referrers,
// so they go one after the other.
func (p *Plan) attach(ctx context.Context, jobs int, printer *progress.Printer) error {
	todo := slices.DeleteFunc(slices.Clone(p.targets), func(t *target) bool {
		return !slices.ContainsFunc(t.attachments, func(a *attachment) bool { return !a.present })
	})
	return inSteps(ctx, jobs, printer, "Attaching SBOMs", todo, func(ctx context.Context, t *target) error {
		for _, a := range t.attachments {
			if a.present {
				continue
			}
			if err := t.repo.Put(ctx, a.digest.String(), a); err != nil {
				return fmt.Errorf("attaching %s: %w", a.Title, err)
			}
		}
		return nil
	})
}

// tag lets the tags point at the images, all of which are complete by now.
func (p *Plan) tag(ctx context.Context, jobs int, printer *progress.Printer) error {
	type tagging struct {
		*target
		tag *tag
	}
	var todo []tagging
	for _, t := range p.targets {
		for _, tag := range t.tags {
			if tag.now != t.digest {
				todo = append(todo, tagging{t, tag})
			}
		}
	}
	var mu sync.Mutex
	var written []string
	err := inSteps(ctx, jobs, printer, "Tagging", todo, func(ctx context.Context, t tagging) error {
		err := t.repo.Put(ctx, t.tag.name, t.Image.Image)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, t.repo.Name()+":"+t.tag.name)
		}
		return err
	})
	if len(written) > 0 && err != nil {
		slices.Sort(written)
		return fmt.Errorf("%w\nWritten before that: %s", err, strings.Join(written, ", "))
	}
	return err
}

// inSteps calls do for each element of a list, jobs at a time, as one step.
func inSteps[T any](ctx context.Context, jobs int, printer *progress.Printer, name string, todo []T, do func(context.Context, T) error) error {
	if len(todo) == 0 {
		return nil
	}
	step := printer.Step("%s", name)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, t := range todo {
		g.Go(func() error { return do(ctx, t) })
	}
	err := g.Wait()
	if err != nil {
		step.Fail("")
		return err
	}
	step.Done("%d written", len(todo))
	return nil
}
