package node

import (
	"encoding/json"
	"net"
	"path/filepath"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// Report is one message from a node to the top-level container.
type Report struct {
	Node string `json:"node"`
	// Step is the name of a finished step, Start when it began, and Took how long it took, in
	// nanoseconds.
	Step  string        `json:"step,omitempty"`
	Start time.Time     `json:"start,omitzero"`
	Took  time.Duration `json:"took,omitempty"`
	// Done reports whether the node is complete, or back after a restart.
	Done bool `json:"done,omitempty"`
	// Error is the reason why the node gives up, and Log the end of the log that explains it.
	Error string `json:"error,omitempty"`
	Log   string `json:"log,omitempty"`
}

// reporter sends reports. The zero reporter drops them: a node whose top-level container does not
// listen, since it was restarted by hand perhaps, works all the same.
type reporter struct {
	node string
	conn net.Conn
}

func newReporter(node string) *reporter {
	conn, err := net.DialTimeout("unix", filepath.Join(paths.NodeStatusDir, paths.StatusSocket), time.Second)
	if err != nil {
		return &reporter{}
	}
	return &reporter{node: node, conn: conn}
}

func (r *reporter) send(report Report) {
	if r.conn == nil {
		return
	}
	report.Node = r.node
	_ = r.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = json.NewEncoder(r.conn).Encode(report)
}

func (r *reporter) close() {
	if r.conn != nil {
		r.conn.Close()
	}
}
