package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/internal/kubeconfig"
)

func (a *app) delete() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Remove a cluster, with all that belongs to it",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var files []*kubeconfig.File
			if config != "" {
				files = append(files, kubeconfig.At(config))
			} else {
				var err error
				if files, err = kubeconfig.DefaultFiles(); err != nil {
					return err
				}
			}
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			found, err := l.Delete(c.Context(), a.name, files...)
			if err == nil && !found {
				// Not an error: afterwards there is no such cluster, as was asked for.
				fmt.Fprintf(a.stderr, "There is no cluster %q.\n", a.name)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&config, "kubeconfig", "", "file that has the cluster's entries (default: $KUBECONFIG or ~/.kube/config)")
	return cmd
}

func (a *app) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clusters",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			clusters, err := l.List(c.Context())
			if err != nil {
				return err
			}
			if len(clusters) == 0 {
				fmt.Fprintln(a.stderr, "There are no clusters.")
				return nil
			}
			w := tabwriter.NewWriter(a.stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATUS\tIMAGE")
			for _, cl := range clusters {
				fmt.Fprintf(w, "%s\t%s\t%s\n", cl.Name, cl.Status, cl.Image)
			}
			return w.Flush()
		},
	}
}

func (a *app) load() *cobra.Command {
	var archive string
	cmd := &cobra.Command{
		Use:   "load [IMAGE...]",
		Short: "Copy images of the local Docker, or an archive of images, to all nodes",
		RunE: func(c *cobra.Command, images []string) error {
			if (archive == "") == (len(images) == 0) {
				return usageError{errors.New("want images of the local Docker, or an archive with --archive")}
			}
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			if archive == "" {
				return l.LoadImages(c.Context(), a.name, images...)
			}
			var in io.Reader = os.Stdin
			if archive != "-" {
				file, err := os.Open(userPath(archive))
				if err != nil {
					return err
				}
				defer file.Close()
				in = file
			}
			return l.Load(c.Context(), a.name, in)
		},
	}
	cmd.Flags().StringVar(&archive, "archive", "", "archive of images, as docker save writes it or an OCI layout as tar; - is standard input")
	return cmd
}

func (a *app) logs() *cobra.Command {
	var (
		follow  bool
		archive string
	)
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what a cluster printed while it came up, or collect the logs of all nodes",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			if archive == "" {
				return l.Logs(c.Context(), a.name, follow, a.stdout)
			}
			file, err := os.OpenFile(userPath(archive), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			defer file.Close()
			if err := l.NodeLogs(c.Context(), a.name, file); err != nil {
				return err
			}
			return file.Close()
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as long as the cluster does")
	cmd.Flags().StringVar(&archive, "archive", "", "tar file that gets the logs of all nodes")
	cmd.MarkFlagsMutuallyExclusive("follow", "archive")
	return cmd
}

// userPath is a path that the user gave: a relative one starts where the user is, which
// under `bazel run` is not where this process is.
func userPath(path string) string {
	if wd := os.Getenv("BUILD_WORKING_DIRECTORY"); wd != "" && !filepath.IsAbs(path) {
		return filepath.Join(wd, path)
	}
	return path
}

func (a *app) kubeconfig() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a cluster's kubeconfig, or put it into a file",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			config, err := l.Kubeconfig(c.Context(), a.name)
			if err != nil {
				return err
			}
			if path != "" {
				return kubeconfig.At(path).Add(c.Context(), *config)
			}
			data, err := config.Marshal()
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(data)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "kubeconfig", "", "file that gets the cluster's entries, in place of standard output")
	return cmd
}
