package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

// secrets are made once for every cluster.
type secrets struct {
	CA pki.Pair `json:"ca"`
	// Admin is for users: an administrator whose rights come from RBAC and can be taken away.
	// Runner is the runner's own: its group, system:masters, has all rights before there are roles
	// in the cluster (SystemPrivilegedGroup in
	// https://pkg.go.dev/k8s.io/apiserver/pkg/authentication/user).
	Admin  pki.Pair `json:"admin"`
	Runner pki.Pair `json:"runner"`
	// Shared is what all control planes have besides the CA.
	Shared node.Shared `json:"shared"`
}

func newSecrets(algorithm pki.Algorithm, now time.Time) (*secrets, error) {
	ca, err := algorithm.NewCA("kubernetes", now)
	if err != nil {
		return nil, err
	}
	admin, err := ca.NewClient("kubernetes-admin", []string{"kubeadm:cluster-admins"}, now)
	if err != nil {
		return nil, err
	}
	runner, err := ca.NewClient("dind-cluster-runner", []string{"system:masters"}, now)
	if err != nil {
		return nil, err
	}
	etcd, err := algorithm.NewCA("etcd-ca", now)
	if err != nil {
		return nil, err
	}
	frontProxy, err := algorithm.NewCA("front-proxy-ca", now)
	if err != nil {
		return nil, err
	}
	serviceAccounts, err := algorithm.NewKey()
	if err != nil {
		return nil, err
	}
	return &secrets{
		CA: *ca, Admin: *admin, Runner: *runner,
		Shared: node.Shared{EtcdCA: *etcd, FrontProxyCA: *frontProxy, ServiceAccounts: *serviceAccounts},
	}, nil
}

// makeSecrets makes the cluster's keys and saves them with the rest of the state, which must be on
// the disk before the first node starts.
func (c *cluster) makeSecrets(context.Context) (string, error) {
	s, err := newSecrets(pki.Algorithm(c.settings.Kubernetes.EncryptionAlgorithm), time.Now())
	if err != nil {
		return "", err
	}
	c.state.Secrets = *s
	if err := os.RemoveAll(nodeDir("")); err != nil {
		return "", err
	}
	c.state.Joined = []string{}
	if err := c.state.save(paths.State); err != nil {
		return "", err
	}
	if err := c.writeKubeconfig(); err != nil {
		return "", err
	}
	return "", c.connect()
}

// writeKubeconfig writes the kubeconfig for kubectl in this container, unless it is there. It has a
// key in it, so it is with all others; where kubectl looks for it is a link.
func (c *cluster) writeKubeconfig() error {
	path := filepath.Join(paths.State, "kubeconfig")
	if _, err := os.Stat(path); !c.resumed || errors.Is(err, os.ErrNotExist) {
		admin := c.kubeconfig(c.state.Secrets.Admin)
		admin.Server = localServer
		config, err := admin.Marshal()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(paths.State, 0o700); err != nil {
			return err
		}
		if err := writeDurably(path, config); err != nil {
			return fmt.Errorf("writing the administrator's kubeconfig: %w", err)
		}
	}
	info, err := os.Lstat(paths.AdminKubeconfig)
	if err == nil && c.resumed && info.Mode().IsRegular() {
		return nil // the user's own
	}
	if err := os.MkdirAll(filepath.Dir(paths.AdminKubeconfig), 0o700); err != nil {
		return err
	}
	if err := os.Remove(paths.AdminKubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(path, paths.AdminKubeconfig)
}

func (c *cluster) kubeconfig(user pki.Pair) kubeconfig.Config {
	return kubeconfig.Config{
		Name:   "dind-cluster",
		Server: "https://" + c.topology.Endpoint.String(),
		CA:     c.state.Secrets.CA.Cert,
		Cert:   user.Cert,
		Key:    user.Key,
	}
}

// connect makes the client with which the rest of the actions ask the API server.
func (c *cluster) connect() error {
	if c.api != nil {
		return nil
	}
	api, err := kubeapi.New(c.kubeconfig(c.state.Secrets.Runner))
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	c.api = api
	return nil
}
