package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/progress"
	"github.com/dind-cluster/dind-cluster/tools/e2e/mirror"
)

// undoTime is how long it may take to make the nodes forget the mirror.
const undoTime = 10 * time.Second

// serveImages sees that no node has to go to a registry, not even for pods with the pull policy
// Always: it serves the images of an archive as the registries that they come from. Stop ends that.
func serveImages(ctx context.Context, path string, p *progress.Printer) (stop func(), err error) {
	step := p.Step("a registry for the nodes")
	defer func() {
		if err != nil {
			step.Fail("")
			err = fmt.Errorf("a registry for the nodes: %w", err)
		}
	}()
	nodes, err := mirror.FindNodes(ctx)
	if err != nil {
		return nil, err
	}
	m, err := mirror.Serve(ctx, path, net.JoinHostPort(nodes.Gateway, "0"))
	if err != nil {
		return nil, err
	}
	undo, err := nodes.Use(ctx, m)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	step.Done("%s", m.Address)
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		if err := errors.Join(undo(ctx), m.Close()); err != nil {
			p.Printf("the nodes still look for images at %s, where they are no more: %v", m.Address, err)
		}
	}, nil
}
