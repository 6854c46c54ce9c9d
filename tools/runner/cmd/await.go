package cmd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

// await waits until the API server is ready, as the user in the --kubeconfig of a component's
// command line sees it, and then becomes the component: the next program of its name on PATH.
func await(ctx context.Context, args []string) error {
	program, err := next(filepath.Base(args[0]))
	if err != nil {
		return err
	}
	path := ""
	for _, a := range args[1:] {
		if value, ok := strings.CutPrefix(a, "--kubeconfig="); ok {
			path = value
		}
	}
	if path == "" {
		return fmt.Errorf("%s: its command line has no --kubeconfig=FILE", args[0])
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config, err := kubeconfig.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	api, err := kubeapi.New(config)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Without a deadline: the container's startup probe has one.
	if err := api.WaitFor(ctx, "/readyz"); err != nil {
		return err
	}
	return fmt.Errorf("becoming %s: %w", program, syscall.Exec(program, args, os.Environ()))
}

// next returns the first program of a name on PATH that is not this one.
func next(name string) (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !os.SameFile(info, self) {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program %s on PATH (%s)", name, os.Getenv("PATH"))
}
