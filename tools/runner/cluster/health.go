package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
)

// Health returns nil if the cluster is ready and its API server answers.
func Health(ctx context.Context) error {
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
	return nil
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
