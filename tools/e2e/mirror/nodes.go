package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// certsDir is where containerd looks for a registry's hosts.toml, and does so anew at each pull:
// https://github.com/containerd/containerd/blob/main/docs/hosts.md
const certsDir = "/etc/containerd/certs.d"

// Nodes are the node containers of the cluster whose top-level container this is.
type Nodes struct {
	docker *docker.Client
	names  []string
	// Gateway is the address of the top-level container in the nodes' network.
	Gateway string
}

// FindNodes returns the nodes that run.
func FindNodes(ctx context.Context) (*Nodes, error) {
	client, err := docker.Find()
	if err != nil {
		return nil, err
	}
	names, err := nodes.Running(ctx, client)
	if err != nil {
		return nil, err
	}
	n := &Nodes{docker: client, names: names}
	out, err := client.Output(ctx, "look at node "+n.names[0], "container", "inspect",
		"--format", "{{range .NetworkSettings.Networks}}{{println .Gateway}}{{end}}", n.names[0])
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(out))
	if len(fields) != 1 {
		return nil, fmt.Errorf("node %s has the gateways %q, want one", n.names[0], fields)
	}
	n.Gateway = fields[0]
	return n, nil
}

// Use tells the nodes to ask the mirror first. A registry for which a node has a hosts.toml already
// is left as it is. The function that it returns takes it back.
func (n *Nodes) Use(ctx context.Context, m *Mirror) (undo func(context.Context) error, err error) {
	undo = func(ctx context.Context) error {
		return n.Each(func(node string) error {
			_, err := n.Exec(ctx, node, append([]string{"sh", "-c", removeScript, "sh", marker}, n.files(m)...)...)
			return err
		})
	}
	err = n.Each(func(node string) error {
		for i, file := range n.files(m) {
			in := strings.NewReader(hostsFile(m.Hosts[i], m.Address))
			if _, err := n.docker.ExecInput(ctx, node, in, "sh", "-c", writeScript, "sh", file, marker); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	return undo, nil
}

func (n *Nodes) files(m *Mirror) (files []string) {
	for _, host := range m.Hosts {
		files = append(files, certsDir+"/"+host+"/hosts.toml")
	}
	return files
}

// Len is their number.
func (n *Nodes) Len() int { return len(n.names) }

// Exec runs a command in a node and returns what it prints.
func (n *Nodes) Exec(ctx context.Context, node string, command ...string) ([]byte, error) {
	return n.docker.Exec(ctx, node, command...)
}

// Each does something for all nodes at the same time.
func (n *Nodes) Each(do func(node string) error) error {
	errs := make([]error, len(n.names))
	var wg sync.WaitGroup
	for i, node := range n.names {
		wg.Go(func() { errs[i] = do(node) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// marker begins the files that are ours.
const marker = "# Of the e2e program, while specs run."

const (
	// $1 file, $2 marker. One left by a run that was killed is replaced.
	writeScript = `if [ ! -e "$1" ] || head -n 1 "$1" | grep -qxF "$2"; then mkdir -p "${1%/*}" && cat >"$1"; fi`
	// $1 marker, then files.
	removeScript = `m=$1; shift; for f; do if [ -e "$f" ] && head -n 1 "$f" | grep -qxF "$m"; then rm -f "$f"; rmdir "${f%/*}" 2>/dev/null || :; fi; done`
)

// hostsFile is a hosts.toml that puts the mirror before a registry.
func hostsFile(host, address string) string {
	server := host
	if host == "index.docker.io" || host == "docker.io" {
		server = "registry-1.docker.io"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nserver = \"https://%s\"\n\n[host.\"http://%s\"]\n", marker, server, address)
	fmt.Fprintf(&b, "capabilities = [\"pull\", \"resolve\"]\n")
	return b.String()
}
