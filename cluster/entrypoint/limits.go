package entrypoint

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/cluster/node"
)

// hardNoFile is systemd's own default for the limit up to which a process may raise its own.
const hardNoFile = 512 << 10

// limitFiles sets how many files processes of pods may have open: they inherit containerd's limits.
// By default these are systemd's, 1024 and 524288, as in upstream's containerd.service since 2.0
// (https://github.com/containerd/containerd/pull/8924), and as programs that use select(2) need; a
// program that needs more can raise its own limit, as all programs in Go do.
func limitFiles(nodeConfig, units string) error {
	config, err := node.ReadConfig(nodeConfig)
	if err != nil {
		return nil // the node's runner says what is wrong
	}
	soft := config.Topology.NoFile
	path := filepath.Join(units, "containerd.service.d", "nofile.conf")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "[Service]\nLimitNOFILE=%d:%d\n", soft, max(soft, hardNoFile)), 0o644)
}
