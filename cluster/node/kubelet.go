package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// kubeletPKIDir is where a kubelet keeps its own keys.
const kubeletPKIDir = "/var/lib/kubelet/pki"

// writeKubeletIdentity writes the client certificate of the node's kubelet, and the kubeconfig that
// names it, as kubeadm and a kubelet between them leave them behind: a file with a date that the
// kubelet replaces when it is time, and a link to it.
//
// With kubeadm alone, a control plane's kubelet would get a kubeconfig with the certificate in it,
// and the phase kubelet-finalize would restart it to change that, just when it has the first pods
// to run
// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/cmd/phases/init/kubeletfinalize.go).
// A worker's kubelet would request a certificate from the controllers. Until they run, its other
// requests fail, and it retries them after ever longer waits.
func writeKubeletIdentity(c Config, pkiDir, kubeconfigPath string, now time.Time) error {
	current := filepath.Join(pkiDir, "kubelet-client-current.pem")
	file := filepath.Join(pkiDir, "kubelet-client-"+now.UTC().Format("2006-01-02-15-04-05")+".pem")
	if err := os.MkdirAll(pkiDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, slices.Concat(c.Kubelet.Cert, c.Kubelet.Key), 0o600); err != nil {
		return fmt.Errorf("writing the kubelet's certificate: %w", err)
	}
	if err := os.Remove(current); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("writing the kubelet's certificate: %w", err)
	}
	if err := os.Symlink(file, current); err != nil {
		return fmt.Errorf("writing the kubelet's certificate: %w", err)
	}
	config, err := kubeconfig.Config{
		Name:     "kubernetes",
		Server:   "https://" + c.Topology.Endpoint.String(),
		CA:       c.CA.Cert,
		CertFile: current,
		KeyFile:  current,
	}.Marshal()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(kubeconfigPath), 0o755); err != nil {
		return err
	}
	return os.WriteFile(kubeconfigPath, config, 0o600)
}

// writeKubeletServing writes the serving certificate of a node's kubelet, where the kubelet looks
// for one before it makes its own (InitializeTLS in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubelet/app/server.go).
func writeKubeletServing(c Config, pkiDir string) error {
	if err := os.MkdirAll(pkiDir, 0o755); err != nil {
		return err
	}
	for name, file := range map[string]struct {
		data []byte
		mode os.FileMode
	}{"kubelet.crt": {c.Serving.Cert, 0o644}, "kubelet.key": {c.Serving.Key, 0o600}} {
		if err := os.WriteFile(filepath.Join(pkiDir, name), file.data, file.mode); err != nil {
			return fmt.Errorf("writing the kubelet's serving certificate: %w", err)
		}
	}
	return nil
}
