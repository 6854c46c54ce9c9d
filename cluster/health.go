package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// Health returns nil if the cluster is ready, its API server answers, and, if what is
// v1alpha1.HealthNodes, all nodes are ready. Otherwise the error says what is missing.
func Health(ctx context.Context, what string) error {
	if _, err := os.Stat(paths.Ready); errors.Is(err, os.ErrNotExist) {
		phase, err := os.ReadFile(paths.Phase)
		if err != nil {
			return errors.New("not ready: the container is starting")
		}
		return fmt.Errorf("not ready: %s", strings.TrimSpace(string(phase)))
	} else if err != nil {
		return err
	}
	config, err := adminKubeconfig()
	if err != nil {
		return err
	}
	api, err := kubeapi.New(config)
	if err != nil {
		return err
	}
	if err := api.Get(ctx, "/readyz", nil); err != nil {
		return fmt.Errorf("the API server does not answer: %w", err)
	}
	if what != v1alpha1.HealthNodes {
		return nil
	}
	s, err := loadState(paths.State)
	if err != nil {
		return err
	}
	client, err := docker.Find()
	if err != nil {
		return err
	}
	containers, err := nodes.All(ctx, client)
	if err != nil {
		return err
	}
	// From the API server's cache (resourceVersion=0): Docker runs the health check again and
	// again.
	var list struct{ Items []kubeapi.Node }
	if err := api.Get(ctx, "/api/v1/nodes?resourceVersion=0", &list); err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	if down := downNodes(s.Topology, containers, list.Items); len(down) > 0 {
		return fmt.Errorf("nodes are down: %s", strings.Join(down, "; "))
	}
	return incomplete(paths.Incomplete)
}

// downNodes returns which nodes do not work, and why. It looks at the containers first: the control
// plane notices only after 50 seconds that it no longer hears of a node (NodeMonitorGracePeriod in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controller/nodelifecycle/config/v1alpha1/defaults.go).
func downNodes(t topology.Topology, containers []docker.Summary, registered []kubeapi.Node) []string {
	running, found := map[string]string{}, map[string]kubeapi.Node{}
	for _, c := range containers {
		running[c.Names] = c.State
	}
	for _, n := range registered {
		found[n.Metadata.Name] = n
	}
	var down []string
	for _, n := range t.Nodes {
		have, ok := found[n.Name]
		ready, why := kubeapi.Ready(have.Status.Conditions)
		switch {
		case running[n.Name] == "":
			down = append(down, n.Name+": its container is gone; a restart of the cluster makes it anew")
		case running[n.Name] != "running":
			down = append(down, n.Name+": its container is "+running[n.Name])
		case !ok:
			down = append(down, n.Name+": it is not registered")
		case !ready && t.Networks.PodNetwork != v1alpha1.PodNetworkNone:
			down = append(down, n.Name+": "+why)
		}
	}
	return down
}

func adminKubeconfig() (kubeconfig.Config, error) {
	data, err := os.ReadFile(paths.AdminKubeconfig)
	if errors.Is(err, os.ErrNotExist) {
		return kubeconfig.Config{}, errors.New("the cluster has no kubeconfig yet: it is still starting; `docker logs -f` shows how far it is")
	}
	if err != nil {
		return kubeconfig.Config{}, err
	}
	return kubeconfig.Parse(data)
}
