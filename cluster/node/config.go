package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

// Config has what a node needs to know from the top-level container.
type Config struct {
	Topology topology.Topology `json:"topology"`
	// Node is this node's entry in the topology.
	Node topology.Node `json:"node"`
	// Timeout bounds the start, of the node and of the whole cluster.
	Timeout time.Duration `json:"timeout"`
	// MTU is that of the nodes' network.
	MTU int `json:"mtu"`
	// CA is the cluster's authority. Only control planes have its key.
	CA pki.Pair `json:"ca"`
	// Shared is what only control planes have; nil for workers.
	Shared *Shared `json:"shared,omitempty"`
	// Join reports whether a control plane joins others, rather than making the cluster.
	Join bool `json:"join,omitempty"`
	// Kubelet is the client certificate of the node's kubelet. With it a worker joins, too.
	Kubelet pki.Pair `json:"kubelet"`
	// Serving is the kubelet's certificate as a server.
	Serving pki.Pair `json:"serving"`
}

// Shared has the keys that all control planes of a cluster have in common, besides its CA's: what
// `kubeadm init --upload-certs` would hand to those that join.
type Shared struct {
	EtcdCA       pki.Pair `json:"etcdCA"`
	FrontProxyCA pki.Pair `json:"frontProxyCA"`
	// ServiceAccounts signs tokens; its Cert is the public key.
	ServiceAccounts pki.Pair `json:"serviceAccounts"`
}

const configFile = "node.json"

// Write puts the configuration into a directory that becomes the node's paths.NodeConfig. It holds
// secrets.
func (c Config) Write(dir string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, configFile), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the configuration of %s: %w", c.Node.Name, err)
	}
	return nil
}

// ReadConfig reads what Write wrote.
func ReadConfig(dir string) (Config, error) {
	var c Config
	data, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("%s is missing: a node is started by the top-level container (image dind-cluster), not by hand", filepath.Join(paths.NodeConfig, configFile))
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return c, fmt.Errorf("reading the node's configuration: %w", err)
	}
	return c, nil
}
