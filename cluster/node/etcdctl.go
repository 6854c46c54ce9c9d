package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// Etcdctl runs etcdctl in the node's etcd container, as a client that etcd trusts.
func Etcdctl(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	const keys = pkiDir + "/etcd/"
	id, err := exec.CommandContext(ctx, "crictl", "ps", "--quiet", "--name", "^etcd$").Output()
	if err != nil {
		return fmt.Errorf("looking for etcd's container: %w", err)
	}
	container, _, _ := strings.Cut(string(id), "\n")
	if container == "" {
		return errors.New("no etcd runs on this node")
	}
	cmd := exec.CommandContext(ctx, "crictl", append([]string{
		"exec", container, "etcdctl", "--endpoints=https://localhost:2379",
		"--cacert=" + keys + "ca.crt", "--cert=" + keys + "server.crt", "--key=" + keys + "server.key",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd.Run()
}
