package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/store"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

// stateVersion changes whenever other versions cannot read the state.
const stateVersion = 2

// state is all that survives a restart of the container, in one file on the volume that has the
// nodes' containers.
type state struct {
	Version int `json:"version"`
	// Settings are those that the cluster was made with, and Topology is what they resolved to.
	Settings v1alpha1.Cluster  `json:"settings"`
	Topology topology.Topology `json:"topology"`
	Secrets  secrets           `json:"secrets"`
	// Edited reports whether nodes were added or removed since: Settings has those that there are now.
	Edited bool `json:"edited,omitempty"`
	// Leaving are nodes on their way out: no longer part of Topology, but something of them may be
	// left.
	Leaving []topology.Node `json:"leaving,omitempty"`
	// Joined has the names of the nodes that are complete. Others are made anew. Until the control
	// plane is among them there is no cluster to lose.
	Joined []string `json:"joined"`
	// Addons has the names of the add-ons that were applied.
	Addons []string `json:"addons,omitempty"`
}

// created reports whether there is a cluster to save.
func (s *state) created() bool {
	return slices.ContainsFunc(s.Topology.ControlPlanes(), func(n topology.Node) bool { return slices.Contains(s.Joined, n.Name) })
}

func stateFile(dir string) string { return filepath.Join(dir, "cluster.json") }

// loadState reads the state in a directory. If there is none, the error wraps os.ErrNotExist.
func loadState(dir string) (*state, error) {
	path := stateFile(dir)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	var v struct{ Version int }
	s := &state{}
	err = json.Unmarshal(data, &v)
	if err == nil && v.Version != stateVersion {
		return nil, fmt.Errorf("the cluster in the volume %s was made by another version of dind-cluster (%s has version %d, this one reads %d): start it with the image that made it, or start a container with a new volume",
			paths.DockerRoot, path, v.Version, stateVersion)
	}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err == nil && (len(s.Topology.Nodes) == 0 || len(s.Secrets.CA.Key) == 0) {
		err = errors.New("it lacks the nodes or the keys")
	}
	if err != nil {
		return nil, fmt.Errorf("the cluster's state, %s in the volume %s, is damaged: %w. Without it the cluster there has no keys: put back a copy of the file, or give the cluster up and start a container with a new volume (`docker rm -f -v` removes this one's)",
			path, paths.DockerRoot, err)
	}
	return s, nil
}

// SavedSettings returns the settings of the cluster in the volume.
func SavedSettings() (v1alpha1.Cluster, error) {
	s, err := loadState(paths.State)
	if err != nil {
		return v1alpha1.Cluster{}, err
	}
	return s.Settings, nil
}

// save writes the state so that after a power cut there is either what was there before or all of
// it.
func (s *state) save(dir string) error {
	s.Version = stateVersion
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = writeDurably(stateFile(dir), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	// What the directories above had before is on the disk after the first time.
	return store.Sync(filepath.Dir(dir))
}

// writeDurably replaces a file that is for root alone.
func writeDurably(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	return store.Sync(dir)
}

// joined saves that the nodes in names are complete, and that those in not must be made anew.
func (c *cluster) joined(names, not []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	var add []string
	for _, name := range names {
		if !slices.Contains(s.Joined, name) {
			add = append(add, name)
		}
	}
	left := slices.DeleteFunc(slices.Clone(s.Joined), func(name string) bool { return slices.Contains(not, name) })
	if len(add) == 0 && len(left) == len(s.Joined) {
		return nil
	}
	// What nodes read at each start must be on the disk before the state says that they are
	// complete.
	for _, name := range add {
		files, err := filepath.Glob(filepath.Join(nodeDir(name), "*"))
		if err != nil {
			return err
		}
		for _, path := range append(files, nodeDir(name), nodeDir("")) {
			if err := store.Sync(path); err != nil {
				return fmt.Errorf("bringing the configuration of node %s to the disk: %w", name, err)
			}
		}
	}
	s.Joined = append(left, add...)
	slices.Sort(s.Joined)
	return s.save(paths.State)
}
