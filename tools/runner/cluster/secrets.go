package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeapi"
	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"github.com/dind-cluster/dind-cluster/tools/runner/pki"
)

// secrets are made once for every cluster.
type secrets struct {
	CA pki.Pair `json:"ca"`
	// Admin is for users: an administrator whose rights can be taken away. Runner is for ourselves: it has its rights
	// before there are roles in the cluster.
	Admin          pki.Pair `json:"admin"`
	Runner         pki.Pair `json:"runner"`
	Token          string   `json:"token"`
	CertificateKey string   `json:"certificateKey"`
}

func newSecrets(now time.Time) (*secrets, error) {
	ca, err := pki.NewCA("kubernetes", now)
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
	token, err := pki.NewToken()
	if err != nil {
		return nil, err
	}
	key, err := pki.NewCertificateKey()
	if err != nil {
		return nil, err
	}
	return &secrets{CA: *ca, Admin: *admin, Runner: *runner, Token: token, CertificateKey: key}, nil
}

func secretsFile() string { return filepath.Join(paths.State, "secrets.json") }

func readSecrets() (*secrets, error) {
	data, err := os.ReadFile(secretsFile())
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's keys: %w", err)
	}
	var s secrets
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("reading the cluster's keys: %w", err)
	}
	return &s, nil
}

// makeSecrets makes the cluster's keys, and the kubeconfig for kubectl in this container.
func (c *cluster) makeSecrets(context.Context) (string, error) {
	s, err := newSecrets(c.started)
	if err != nil {
		return "", err
	}
	c.secrets = s
	data, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	if err := writePrivate(secretsFile(), data); err != nil {
		return "", err
	}
	admin := c.kubeconfig(s.Admin)
	admin.Server = localServer
	config, err := admin.Marshal()
	if err != nil {
		return "", err
	}
	return "", writePrivate(paths.AdminKubeconfig, config)
}

func (c *cluster) kubeconfig(user pki.Pair) kubeconfig.Config {
	return kubeconfig.Config{
		Name:   "dind-cluster",
		Server: "https://" + c.plan.APIServer().String(),
		CA:     c.secrets.CA.Cert,
		Cert:   user.Cert,
		Key:    user.Key,
	}
}

// connect makes the client with which the rest of the actions ask the API server.
func (c *cluster) connect() error {
	if c.api != nil {
		return nil
	}
	api, err := kubeapi.New(c.kubeconfig(c.secrets.Runner))
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	c.api = api
	return nil
}

func writePrivate(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
