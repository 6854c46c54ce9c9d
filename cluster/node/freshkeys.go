package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/kubeadm"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// KeysAnnotation is that of kubeadm's ConfigMap kubeadm-config, which nodes may read, with the KeysID
// of the authority that all objects of the API server have.
const KeysAnnotation = "dind-cluster.github.io/keys"

// KeysID identifies a certificate authority.
func KeysID(ca []byte) string {
	sum := sha256.Sum256(bytes.TrimSpace(ca))
	return hex.EncodeToString(sum[:])
}

// renewing exists while a node's keys are being replaced.
const renewing = "/etc/kubernetes/.renewing"

// nowhere is where no API server is.
var nowhere = netip.MustParseAddrPort("127.0.0.1:1")

// newKeys reports whether the node, which exists, is to have other keys than it has.
func (n *node) newKeys() (bool, error) {
	if exists(renewing) {
		return true, nil
	}
	have, err := os.ReadFile(filepath.Join(pkiDir, "ca.crt"))
	if err != nil {
		return false, err
	}
	return !bytes.Equal(bytes.TrimSpace(have), bytes.TrimSpace(n.config.CA.Cert)), nil
}

// renewKeys replaces all of the node's keys, and starts its kubelet.
//
// A control plane's kubelet has to start before the API server's objects have the new authority, for
// it starts the API server. It does not find that one until they have, so that it starts no other
// pods.
func (n *node) renewKeys(ctx context.Context) error {
	control := n.config.Node.Role == topology.ControlPlane
	if err := n.step("making keys", func() error { return n.replaceKeys(ctx, control) }); err != nil {
		return err
	}
	if control {
		closed := n.config
		closed.Topology.Endpoint = nowhere
		if err := writeKubeletIdentity(closed, kubeletPKIDir, kubeletKubeconfig, time.Now()); err != nil {
			return err
		}
		if err := n.step("control plane", func() error { return n.run(ctx, nil, "systemctl", "start", "kubelet.service") }); err != nil {
			return err
		}
	}
	if err := n.step("waiting for the objects with the new keys", func() error { return n.waitForKeys(ctx) }); err != nil {
		return err
	}
	if err := writeKubeletIdentity(n.config, kubeletPKIDir, kubeletKubeconfig, time.Now()); err != nil {
		return err
	}
	if err := os.Remove(renewing); err != nil {
		return err
	}
	return n.step("kubelet", func() error { return n.run(ctx, nil, "systemctl", "restart", "kubelet.service") })
}

// replaceKeys replaces the files with keys.
func (n *node) replaceKeys(ctx context.Context, control bool) error {
	if err := os.WriteFile(renewing, nil, 0o600); err != nil {
		return err
	}
	old, err := filepath.Glob("/etc/kubernetes/*.conf")
	if err != nil {
		return err
	}
	superAdmin := exists(superAdminKubeconfig)
	for _, path := range append(old, pkiDir, kubeletPKIDir) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	now := time.Now()
	if err := writeKubeletIdentity(n.config, kubeletPKIDir, kubeletKubeconfig, now); err != nil {
		return err
	}
	if err := writeKubeletServing(n.config, kubeletPKIDir); err != nil {
		return err
	}
	if !control {
		if err := os.MkdirAll(pkiDir, 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(pkiDir, "ca.crt"), n.config.CA.Cert, 0o644)
	}
	if err := n.prepareControlPlane(); err != nil {
		return err
	}
	// A control plane that has joined has the same certificates as the first one.
	if err := n.writeConfig(ctx, kubeadm.Init); err != nil {
		return err
	}
	if err := n.run(ctx, nil, "kubeadm", "init", "--config", kubeadmConfig, kubeadm.Quiet, "--skip-phases", kubeadm.Skip("certs", "kubeconfig")); err != nil {
		return err
	}
	if !superAdmin {
		if err := os.Remove(superAdminKubeconfig); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// waitForKeys waits until the API server's objects have the new authority.
func (n *node) waitForKeys(ctx context.Context) error {
	api, err := kubeapi.New(kubeconfig.Config{
		Name:   "kubelet",
		Server: "https://" + n.config.Topology.Endpoint.String(),
		CA:     n.config.CA.Cert,
		Cert:   n.config.Kubelet.Cert,
		Key:    n.config.Kubelet.Key,
	})
	if err != nil {
		return err
	}
	const path = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
	want := KeysID(n.config.CA.Cert)
	for {
		if err := api.WaitFor(ctx, path); err != nil {
			return err
		}
		var object struct{ Metadata kubeapi.Meta }
		if err := api.Get(ctx, path, &object); err == nil && object.Metadata.Annotations[KeysAnnotation] == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the ConfigMap kubeadm-config does not have the annotation %s=%s", context.Cause(ctx), KeysAnnotation, want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
