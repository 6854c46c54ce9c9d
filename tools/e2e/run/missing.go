package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/mirror"
	"github.com/dind-cluster/dind-cluster/tools/e2e/missing"
	"github.com/dind-cluster/dind-cluster/tools/e2e/suite"
)

// Missing is what to do with specs that need an image or a feature of the kernel that the cluster
// does not have.
type Missing string

const (
	// MissingFail runs nothing.
	MissingFail Missing = "fail"
	// MissingSkip leaves those specs out.
	MissingSkip Missing = "skip"
	// MissingRun runs them, for clusters that can pull images.
	MissingRun Missing = "run"
)

// Set parses a value of the flag.
func (m *Missing) Set(s string) error {
	switch v := Missing(s); v {
	case MissingFail, MissingSkip, MissingRun:
		*m = v
		return nil
	}
	return errors.New("it takes fail, skip or run")
}

func (m *Missing) String() string { return string(*m) }

// Type is what the help calls a value.
func (m *Missing) Type() string { return "fail|skip|run" }

// findMissing finds what the specs need and the cluster does not have.
func (o *Options) findMissing(ctx context.Context, plan *suite.Plan, version string, p *progress.Printer) ([]missing.Thing, error) {
	images, err := o.missingImages(ctx, plan, version, p)
	if err != nil {
		return nil, err
	}
	features, err := missing.Kernel(ctx, plan.Specs)
	return append(images, features...), err
}

// decide prints which specs need something that is missing, and marks those to be left out.
func (o *Options) decide(things []missing.Thing, plan *suite.Plan, p *progress.Printer) error {
	if len(things) == 0 {
		return nil
	}
	text, specs := describeMissing(things)
	if o.Images == "" {
		text += "\nThis image has no test images, dind-e2e of the same version has them"
	}
	text = fmt.Sprintf("%d of %d specs need what this cluster does not have:\n%s", len(specs), len(plan.Specs), text)
	switch o.Missing {
	case MissingFail:
		return UsageError{errors.New(text + "\nLeave them out with --missing=skip, or, if the nodes can pull the images, run them with --missing=run")}
	case MissingSkip:
		for i, s := range plan.Specs {
			if what := specs[s.Name]; len(what) > 0 {
				plan.Specs[i].LeftOut = "this cluster does not have " + strings.Join(what, ", ")
			}
		}
		if plan.Run() == 0 {
			return UsageError{errors.New(text + "\nNo spec is left to run")}
		}
		text += "\nThey are left out (--missing=skip)"
	case MissingRun:
		text += "\nThey run all the same (--missing=run)"
	}
	p.Printf("%s", text)
	return nil
}

// maxMissing is how many specs are named for each thing. The results have all.
const maxMissing = 25

// describeMissing says what is missing, and returns it by the specs' names.
func describeMissing(things []missing.Thing) (text string, specs map[string][]string) {
	var b strings.Builder
	specs = map[string][]string{}
	for _, t := range things {
		fmt.Fprintf(&b, "  %s, needed by %d:\n", t.What, len(t.Specs))
		for i, s := range t.Specs {
			specs[s] = append(specs[s], t.What)
			if i < maxMissing {
				fmt.Fprintf(&b, "    %s\n", s)
			}
		}
		if more := len(t.Specs) - maxMissing; more > 0 {
			fmt.Fprintf(&b, "    … and %d more\n", more)
		}
	}
	return strings.TrimSuffix(b.String(), "\n"), specs
}

// missingImages finds the images that specs need, and that neither the archive nor all nodes have.
func (o *Options) missingImages(ctx context.Context, plan *suite.Plan, version string, p *progress.Printer) ([]missing.Thing, error) {
	table, err := missing.ReadTable(o.Needs)
	if errors.Is(err, fs.ErrNotExist) || err == nil && table.Version != version {
		p.Printf("which images the specs need is not known: %s is not there, or not of e2e.test %s", o.Needs, version)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var loaded []string
	if o.Images != "" {
		a, err := archive.Open(ctx, o.Images, archive.Options{})
		if err != nil {
			return nil, err
		}
		for _, image := range a.Images {
			loaded = append(loaded, image.Names...)
		}
		if err := a.Close(); err != nil {
			return nil, err
		}
	}
	return table.Missing(ctx, plan.Specs, loaded, nodeImages)
}

// nodeImages returns the names of the images that all nodes have.
func nodeImages(ctx context.Context) ([]string, error) {
	nodes, err := mirror.FindNodes(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	count := map[string]int{}
	err = nodes.Each(func(node string) error {
		out, err := nodes.Exec(ctx, node, "crictl", "images", "--output", "json")
		if err != nil {
			return err
		}
		names, err := parseImages(out)
		if err != nil {
			return fmt.Errorf("node %s: %w", node, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, n := range names {
			count[n]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []string
	for name, n := range count {
		if n == nodes.Len() {
			all = append(all, name)
		}
	}
	return all, nil
}

// parseImages reads what crictl prints. Each name is returned once.
func parseImages(out []byte) ([]string, error) {
	var list struct {
		Images []struct{ RepoTags, RepoDigests []string }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("reading its images: %w", err)
	}
	var names []string
	for _, i := range list.Images {
		names = append(append(names, i.RepoTags...), i.RepoDigests...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
