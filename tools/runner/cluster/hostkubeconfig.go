package cluster

import (
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
)

// HostKubeconfig returns the administrator's kubeconfig as it works on the Docker host. An empty server is the port of
// the plan on 127.0.0.1, an empty name the container's host name.
func HostKubeconfig(p plan.Cluster, server, name string) ([]byte, error) {
	config, err := adminKubeconfig()
	if err != nil {
		return nil, err
	}
	if server == "" {
		server = fmt.Sprintf("https://127.0.0.1:%d", p.APIPort)
	}
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	config.Server, config.Name = server, name
	return config.Marshal()
}
