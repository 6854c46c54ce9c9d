package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/dind-cluster/dind-cluster/cluster/node"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// failures are the nodes that gave up.
type failures struct {
	mu   sync.Mutex
	list []node.Report
}

func (f *failures) add(r node.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, r)
}

func (f *failures) all() []node.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list
}

// listen receives the nodes' reports: finished steps go to the progress, and a node that gives up
// is lost.
func (c *cluster) listen(ctx context.Context) (stop func(), err error) {
	if err := os.MkdirAll(paths.StatusDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(paths.StatusDir, paths.StatusSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening for the nodes' reports: %w", err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.receive(conn)
		}
	}()
	return func() { listener.Close() }, nil
}

func (c *cluster) receive(conn net.Conn) {
	defer conn.Close()
	for reports := json.NewDecoder(conn); ; {
		var r node.Report
		if reports.Decode(&r) != nil {
			return
		}
		if r.Error != "" && c.heard(r) {
			continue
		}
		if r.Error != "" {
			c.failures.add(r)
			c.lose(r.Node, fmt.Errorf("node %s: %s", r.Node, r.Error))
			continue
		}
		if r.Done {
			c.heard(r)
			// From now on there is a cluster to lose. Workers are saved when all are ready; those
			// that are not saved are made anew.
			if n, _ := c.current().Node(r.Node); n.Role == topology.ControlPlane {
				if err := c.joined([]string{r.Node}, nil); err != nil {
					c.lose(r.Node, err)
				}
			}
			continue
		}
		c.heard(r)
		c.spans.Add(timeline.Span{Lane: r.Node, Name: r.Step, Start: r.Start, End: r.Start.Add(r.Took)})
		c.log.Printf("    %s: %s (%s)", r.Node, r.Step, progress.Duration(r.Took))
	}
}
