package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/pki"
)

// keysMade is what the file paths.FreshKeys says when there are new keys, and the API server's objects
// do not have them yet.
const keysMade = "made"

// renewKeys gives a cluster that was restored with fresh keys a new authority, and all that follows
// from it, before its nodes start. Those see to their own files (cluster/node), and renewObjects to
// the API server's objects. If it is interrupted, the next start does it once more.
func (c *cluster) renewKeys() error {
	done, err := os.ReadFile(paths.FreshKeys)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	c.fresh = true
	if string(done) == keysMade {
		return nil
	}
	now := time.Now()
	s, err := newSecrets(pki.Algorithm(c.settings.Kubernetes.EncryptionAlgorithm), now)
	if err != nil {
		return err
	}
	c.state.Secrets = *s
	if err := c.state.save(paths.State); err != nil {
		return err
	}
	for _, n := range c.topology.Nodes {
		if err := c.renewNode(nodeDir(n.Name), n, now); err != nil {
			return fmt.Errorf("giving node %s new keys: %w", n.Name, err)
		}
	}
	if err := os.Remove(filepath.Join(paths.State, "kubeconfig")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := clearMachineIDs(filepath.Join(paths.DockerContainerd, store.Snapshots)); err != nil {
		return err
	}
	return writeDurably(paths.FreshKeys, []byte(keysMade))
}

// renewNode writes the configuration of a node that exists, with new keys.
func (c *cluster) renewNode(dir string, n topology.Node, now time.Time) error {
	config, err := node.ReadConfig(dir)
	if err != nil {
		return err
	}
	kubelet, err := c.state.Secrets.CA.NewClient("system:node:"+n.Name, []string{"system:nodes"}, now)
	if err != nil {
		return err
	}
	serving, err := c.state.Secrets.CA.NewServer(n.Name, addresses(n), now)
	if err != nil {
		return err
	}
	config.Kubelet, config.Serving = *kubelet, *serving
	config.CA = c.state.Secrets.CA
	if config.Shared != nil {
		config.Shared = &c.state.Secrets.Shared
	} else {
		config.CA.Key = nil
	}
	return config.Write(dir)
}

// clearMachineIDs has the nodes get new machine IDs when they start (entrypoint): those among
// containerd's snapshots that are a container's own have one.
func clearMachineIDs(snapshots string) error {
	found, err := filepath.Glob(filepath.Join(snapshots, "*", "fs", "etc", "machine-id"))
	if err != nil {
		return err
	}
	for _, path := range found {
		// Others are links to the node image's.
		if resolved, err := filepath.EvalSymlinks(path); err != nil || resolved != path {
			continue
		}
		if err := os.WriteFile(path, nil, 0o444); err != nil {
			return err
		}
	}
	return nil
}

// renewObjects writes the new authority into the objects that have the old one, and then tells the
// nodes, which let no pods start before: those would trust the old one for as long as they run.
//
// What the cluster cannot know of is left to its users: webhooks and API services whose certificates
// were signed by the old authority, and copies of tokens and kubeconfigs.
func (c *cluster) renewObjects(ctx context.Context) (string, error) {
	if err := c.api.WaitFor(ctx, "/readyz"); err != nil {
		return "", err
	}
	ca, frontProxy := c.state.Secrets.CA.Cert, c.state.Secrets.Shared.FrontProxyCA.Cert
	objects, err := c.holders(ctx)
	if err != nil {
		return "", err
	}
	data := func(values map[string]any) map[string]any { return map[string]any{"data": values} }
	for _, path := range objects.roots {
		// The controller manager would do so, too, but later.
		if err := c.api.Patch(ctx, path, data(map[string]any{"ca.crt": string(ca)})); err != nil && !kubeapi.NotFound(err) {
			return "", err
		}
	}
	for _, path := range objects.tokens {
		// The controller manager makes new ones.
		if err := c.api.Patch(ctx, path, data(map[string]any{"ca.crt": nil, "token": nil})); err != nil && !kubeapi.NotFound(err) {
			return "", err
		}
	}
	// API servers add what is theirs, and do not remove what was there
	// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/controlplane/controller/clusterauthenticationtrust/cluster_authentication_trust_controller.go).
	if err := c.api.Patch(ctx, configMap("kube-system", "extension-apiserver-authentication"), data(map[string]any{
		"client-ca-file": string(ca), "requestheader-client-ca-file": string(frontProxy),
	})); err != nil && !kubeapi.NotFound(err) {
		return "", err
	}
	if err := c.renewClusterInfo(ctx, ca); err != nil {
		return "", err
	}
	mark := map[string]any{"metadata": map[string]any{"annotations": map[string]any{node.KeysAnnotation: node.KeysID(ca)}}}
	if err := c.api.Patch(ctx, configMap("kube-system", "kubeadm-config"), mark); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d objects", len(objects.roots)+len(objects.tokens)+3), os.Remove(paths.FreshKeys)
}

// holders are the API paths of objects that hold the authority or what it or its like has signed.
type holders struct {
	// roots are the ConfigMaps kube-root-ca.crt, tokens the Secrets with service accounts' tokens.
	roots, tokens []string
}

func (c *cluster) holders(ctx context.Context) (holders, error) {
	var h holders
	for _, kind := range []struct {
		resource, selector string
		into               *[]string
	}{
		{"configmaps", "metadata.name=kube-root-ca.crt", &h.roots},
		{"secrets", "type=kubernetes.io/service-account-token", &h.tokens},
	} {
		var list struct {
			Items []struct{ Metadata kubeapi.Meta }
		}
		if err := c.api.Get(ctx, "/api/v1/"+kind.resource+"?fieldSelector="+url.QueryEscape(kind.selector), &list); err != nil {
			return h, err
		}
		for _, item := range list.Items {
			*kind.into = append(*kind.into, "/api/v1/namespaces/"+item.Metadata.Namespace+"/"+kind.resource+"/"+item.Metadata.Name)
		}
		slices.Sort(*kind.into)
	}
	return h, nil
}

// renewClusterInfo writes the authority into the kubeconfig that kubeadm keeps for machines that want
// to join.
func (c *cluster) renewClusterInfo(ctx context.Context, ca []byte) error {
	path := configMap("kube-public", "cluster-info")
	var object struct{ Data map[string]string }
	err := c.api.Get(ctx, path, &object)
	if kubeapi.NotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(object.Data["kubeconfig"]) {
		if before, _, ok := strings.Cut(line, "certificate-authority-data: "); ok {
			line = before + "certificate-authority-data: " + base64.StdEncoding.EncodeToString(bytes.TrimSpace(ca)) + "\n"
		}
		out.WriteString(line)
	}
	return c.api.Patch(ctx, path, map[string]any{"data": map[string]any{"kubeconfig": out.String()}})
}

func configMap(namespace, name string) string {
	return "/api/v1/namespaces/" + namespace + "/configmaps/" + name
}
