package node

import (
	"context"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// ReportFailure reports to the top-level container that the node's runner has ended without a
// report of its own.
func ReportFailure(ctx context.Context, reason string) error {
	config, err := ReadConfig(paths.NodeConfig)
	if err != nil {
		return err
	}
	report := newReporter(config.Node.Name)
	defer report.close()
	report.send(Report{Error: reason, Log: explain(ctx)})
	return nil
}
