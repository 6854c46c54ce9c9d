package cluster

import (
	"context"
	"fmt"
	"io"

	"github.com/dind-cluster/dind-cluster/cluster/forwarder"
	"github.com/dind-cluster/dind-cluster/cluster/tunnel"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// Tunnel opens connections into the cluster that the other side of a stream asks for, until the
// stream or ctx ends.
func Tunnel(ctx context.Context, stream io.ReadWriteCloser) error {
	config, err := adminKubeconfig()
	if err != nil {
		return err
	}
	f := &forwarder.Forwarder{}
	if f.API, err = kubeapi.New(config); err != nil {
		return err
	}
	client, err := docker.Find()
	if err != nil {
		return err
	}
	f.NodePID = func(ctx context.Context, node string) (int, error) {
		c, err := client.Inspect(ctx, node)
		if err == nil && c.State.Pid == 0 {
			err = fmt.Errorf("node %s does not run", node)
		}
		if err != nil {
			return 0, err
		}
		return c.State.Pid, nil
	}
	return tunnel.Serve(ctx, stream, f.Dial)
}
