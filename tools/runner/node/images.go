package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
)

// controlPlaneImages are the components that run as static pods of a control plane, by the names of their archives.
// The other ones (kube-proxy, coredns, pause) run on every node, and on workers nothing else ever does.
var controlPlaneImages = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// sortImages splits the archives into those that kubeadm needs before it can start the node, and those that can come
// a little later.
func sortImages(archives []string, role plan.Role) (first, later []string) {
	for _, path := range archives {
		name := strings.TrimSuffix(filepath.Base(path), ".tar")
		static := slices.Contains(controlPlaneImages, name)
		switch {
		case role == plan.ControlPlane && (static || name == "pause"):
			first = append(first, path)
		case role == plan.ControlPlane:
			later = append(later, path)
		case !static:
			first = append(first, path)
		}
	}
	return first, later
}

func imageArchives() ([]string, error) {
	archives, err := filepath.Glob(filepath.Join(paths.Images, "*.tar"))
	if err != nil {
		return nil, err
	}
	if len(archives) == 0 {
		return nil, errors.New("no component images in " + paths.Images)
	}
	return archives, nil
}

// loadImages loads archives into the node's runtime.
func (n *node) loadImages(ctx context.Context, name string, archives []string) error {
	if len(archives) == 0 {
		return nil
	}
	return n.step(name, func() error {
		if err := n.run(ctx, nil, "loader", append([]string{"load"}, archives...)...); err != nil {
			return fmt.Errorf("loading component images: %w", err)
		}
		return nil
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
