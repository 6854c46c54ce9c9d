package entrypoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tasksPerNode is how many processes and threads a node should be able to have: a few hundred of
// its own, and some tens for each of 110 pods.
const tasksPerNode = 4096

// warnOfTaskLimit prints a warning if the container may have fewer tasks than its nodes need. On a
// host with systemd and cgroup v2 each container is limited to 15 % of what the machine can have
// (DefaultTasksMax=), unless Docker sets a limit, which it does not for -1:
// https://github.com/moby/moby/blob/v28.0.0/api/server/router/container/container_routes.go. The
// container cannot raise its own limit.
func warnOfTaskLimit(out io.Writer, cgroups string, nodes int) error {
	for _, dir := range []string{"", "pids"} {
		data, err := os.ReadFile(filepath.Join(cgroups, dir, "pids.max"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text := strings.TrimSpace(string(data))
		if text == "max" {
			return nil
		}
		limit, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("reading the limit of tasks: unexpected pids.max %q", text)
		}
		if limit < nodes*tasksPerNode {
			fmt.Fprintf(out, "warning: this container may have %d processes and threads in all, and pods fail when they are used up: start it with `docker run --pids-limit 1000000 …`\n", limit)
		}
		return nil
	}
	return nil
}
