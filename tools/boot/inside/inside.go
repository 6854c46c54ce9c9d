// Package inside is the part of the boot benchmark that runs inside of the containers that it
// measures: there it hears of everything at once, and on the clock that all share.
//
// The benchmark copies its own program into the container and runs it with `docker exec`. What it
// finds out is one JSON value on standard output.
package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/probe"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/tools/boot/result"
	"golang.org/x/sync/errgroup"
)

// Watched is what Watch saw: points in time by the names of marks, and the runner's own record.
type Watched struct {
	Marks    map[string]time.Time `json:"marks"`
	Timeline timeline.Timeline    `json:"timeline"`
}

// poll is the pause between two attempts: marks are as exact as that.
const poll = 10 * time.Millisecond

// Watch follows the start of a cluster in the top-level container, as a user with the
// administrator's kubeconfig who makes a Deployment as soon as the API server takes it. It returns
// when all marks are there.
func Watch(ctx context.Context, nodes int, image string) (*Watched, error) {
	if _, err := waitForFile(ctx, paths.Settings); err != nil {
		return nil, err
	}
	p, err := settings.Load()
	if err != nil {
		return nil, err
	}
	data, err := waitForFile(ctx, paths.AdminKubeconfig)
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		return nil, err
	}
	api, err := kubeapi.New(config)
	if err != nil {
		return nil, err
	}
	w := &watch{nodes: nodes, image: image, api: api}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.follow(ctx) })
	group.Go(func() error {
		err := probe.DNS(ctx, topology.Resolve(p).Networks)
		w.dns = time.Now()
		return err
	})
	var line timeline.Timeline
	group.Go(func() error {
		data, err := waitForFile(ctx, paths.Timeline)
		if err != nil {
			return err
		}
		if line, err = timeline.Parse(data); err == nil && !line.Ready {
			err = errors.New("the cluster did not come up")
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	ready := w.allNodes
	for _, t := range []time.Time{w.dns, w.pod} {
		if t.After(ready) {
			ready = t
		}
	}
	return &Watched{Timeline: line, Marks: map[string]time.Time{
		result.APIReady:    w.apiReady,
		result.FirstNode:   w.firstNode,
		result.AllNodes:    w.allNodes,
		result.DNS:         w.dns,
		result.Pod:         w.pod,
		result.RunnerReady: line.End,
		result.Ready:       ready,
	}}, nil
}

type watch struct {
	nodes int
	image string
	api   *kubeapi.Client

	apiReady, firstNode, allNodes, dns, pod time.Time
}

func (w *watch) follow(ctx context.Context) error {
	if err := w.api.WaitFor(ctx, "/readyz"); err != nil {
		return err
	}
	w.apiReady = time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return kubeapi.Follow(ctx, w.api, "/api/v1/nodes", func(all map[string]kubeapi.Node) bool {
			ready := 0
			for _, n := range all {
				if ok, _ := kubeapi.Ready(n.Status.Conditions); ok {
					ready++
				}
			}
			if ready > 0 && w.firstNode.IsZero() {
				w.firstNode = time.Now()
			}
			w.allNodes = time.Now()
			return ready == w.nodes
		})
	})
	group.Go(func() error {
		if err := w.deploy(ctx); err != nil {
			return err
		}
		return kubeapi.Follow(ctx, w.api, "/api/v1/namespaces/default/pods", func(pods map[string]kubeapi.Pod) bool {
			w.pod = time.Now()
			for _, p := range pods {
				if p.Metadata.Labels["app"] == deployment && p.Status.Phase == "Running" {
					return true
				}
			}
			return false
		})
	})
	return group.Wait()
}

const deployment = "boot-benchmark"

// deploy makes the Deployment. At first the administrator has no rights yet, or the namespace is
// not there.
func (w *watch) deploy(ctx context.Context) error {
	labels := map[string]string{"app": deployment}
	object := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": deployment},
		"spec": map[string]any{
			"selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{
				"metadata": map[string]any{"labels": labels},
				"spec": map[string]any{
					"containers": []any{map[string]any{"name": "pause", "image": w.image, "imagePullPolicy": "Never"}},
				},
			},
		},
	}
	return retry(ctx, "making the test Deployment", func() error {
		return w.api.Apply(ctx, "/apis/apps/v1/namespaces/default/deployments/"+deployment, deployment, object)
	})
}

func waitForFile(ctx context.Context, path string) (data []byte, err error) {
	err = retry(ctx, "waiting for "+path, func() (err error) {
		if data, err = os.ReadFile(path); err == nil && len(data) == 0 {
			err = errors.New("it is empty")
		}
		return err
	})
	return data, err
}

// retry tries something until it succeeds. When ctx ends before, the error has its cause and the
// last one that the end itself has not caused.
func retry(ctx context.Context, what string, try func() error) error {
	var last error
	for {
		err := try()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), last)
		case <-time.After(poll):
		}
	}
}
