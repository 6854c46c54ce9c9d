package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/tools/runner/paths"
	"github.com/dind-cluster/dind-cluster/tools/runner/plan"
)

// state is what survives a restart of the container. It is written when the cluster is ready for the first time: a
// start that was interrupted begins anew.
type state struct {
	Plan    plan.Cluster `json:"plan"`
	secrets *secrets
}

const stateFile = "cluster.json"

func loadState() (state, error) {
	var s state
	data, err := os.ReadFile(filepath.Join(paths.State, stateFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("reading the cluster's state: %w", err)
	}
	s.secrets, err = readSecrets()
	return s, err
}

func (c *cluster) saveState() error {
	data, err := json.MarshalIndent(state{Plan: c.plan}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(paths.State, stateFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	return os.Rename(path+".new", path)
}
