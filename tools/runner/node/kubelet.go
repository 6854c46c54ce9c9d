package node

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/tools/runner/kubeconfig"
)

// kubeletPKIDir is where a kubelet keeps its own keys.
const kubeletPKIDir = "/var/lib/kubelet/pki"

// writeKubeletIdentity makes the client certificate of a control plane's kubelet, and the kubeconfig that names it, as
// kubeadm and the kubelet between them leave them behind: the kubeconfig names a file that the kubelet renews. kubeadm
// takes what is there. By itself it would first write a kubeconfig with the certificate in it, and at the end, to change
// that, start the kubelet again, just when the kubelet has the first pods to run.
func writeKubeletIdentity(c Config, pkiDir, kubeconfigPath string, now time.Time) error {
	client, err := c.CA.NewClient("system:node:"+c.Node.Name, []string{"system:nodes"}, now)
	if err != nil {
		return err
	}
	current := filepath.Join(pkiDir, "kubelet-client-current.pem")
	file := filepath.Join(pkiDir, "kubelet-client-"+now.UTC().Format("2006-01-02-15-04-05")+".pem")
	if err := os.MkdirAll(pkiDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(append([]byte{}, client.Cert...), client.Key...), 0o600); err != nil {
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
		Server:   "https://" + c.Cluster.APIServer().String(),
		CA:       c.CA.Cert,
		CertFile: current,
		KeyFile:  current,
	}.Marshal()
	if err != nil {
		return err
	}
	return os.WriteFile(kubeconfigPath, config, 0o600)
}
