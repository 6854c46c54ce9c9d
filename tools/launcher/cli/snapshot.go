package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/cluster/host"
)

func (a *app) snapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep a whole cluster in a file or an image, and bring it back",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return usageError{errors.New("want save, restore or inspect")}
		},
	}
	cmd.AddCommand(a.saveSnapshot(), a.restoreSnapshot(), a.inspectSnapshot())
	return cmd
}

func (a *app) saveSnapshot() *cobra.Command {
	var image string
	cmd := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Save a running cluster, with its objects, images, volumes and keys",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (image != "") || len(args) == 1 && args[0] == "" {
				return usageError{errors.New("want a file, or an image with --image")}
			}
			l, err := a.newLauncher(a.stderr)
			if err != nil {
				return err
			}
			if image != "" {
				return l.SaveSnapshotImage(c.Context(), a.name, image)
			}
			return l.SaveSnapshot(c.Context(), a.name, userPath(args[0]))
		},
	}
	cmd.Flags().StringVar(&image, "image", "", "make an image of this name, of which each container is the cluster, in place of a file")
	return cmd
}

func (a *app) restoreSnapshot() *cobra.Command {
	var flags createFlags
	var freshKeys, freePorts bool
	cmd := &cobra.Command{
		Use:   "restore [FILE]",
		Short: "Make a cluster from a snapshot, beside the others",
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usageError{errors.New("want one file")}
			case len(args) == 0 && flags.image == "":
				return usageError{errors.New("want a file, or an image with a snapshot in it with --image")}
			case c.Flags().Changed("api-port") && flags.apiPort == 0:
				return usageError{errors.New("--api-port 0: want 1 to 65535; leave it out for a free port")}
			case c.Flags().Changed("wait") && flags.wait == 0:
				return usageError{errors.New("--wait 0: leave it out for what the cluster was saved with")}
			}
			path := ""
			if len(args) == 1 {
				path = userPath(args[0])
			}
			return a.runRestore(c.Context(), flags, path, freshKeys, freePorts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&freshKeys, "fresh-keys", false, "give the cluster an authority, certificates and tokens of its own")
	f.BoolVar(&freePorts, "free-ports", false, "publish the nodes' ports (extraPortMappings) as ports that are free, which docker port shows, not as those of the cluster that was saved")
	f.IntVar(&flags.apiPort, "api-port", 0, "port on 127.0.0.1 of the API server (default: a free one)")
	f.StringVar(&flags.kubeconfig, "kubeconfig", "", "file that gets the cluster's entries (default: $KUBECONFIG or ~/.kube/config)")
	f.DurationVar(&flags.wait, "wait", 0, "how long the cluster may take to get ready (default: as long as the one that was saved)")
	f.BoolVar(&flags.retain, "retain", false, "keep a cluster that does not come up, for a look at it")
	f.StringArrayVar(&flags.env, "env", nil, "setting of the cluster as NAME=VALUE, such as a proxy; may be repeated")
	f.StringVar(&flags.image, "image", "", "image that the local Docker has, in place of the one just built; without a file it is one with a snapshot in it")
	return cmd
}

func (a *app) runRestore(ctx context.Context, flags createFlags, path string, freshKeys, freePorts bool) error {
	var from *host.Snapshot
	var err error
	if path != "" {
		if from, err = readSnapshot(path); err != nil {
			return err
		}
	}
	l, err := a.newLauncher(a.stderr)
	if err != nil {
		return err
	}
	r, err := a.request(l, flags)
	if err != nil {
		return err
	}
	start := time.Now()
	if from == nil {
		if from, err = l.ImageSnapshot(ctx, flags.image); err != nil {
			return err
		}
	}
	from.FreshKeys, from.FreePorts = freshKeys, freePorts
	r.Snapshot = from
	made, err := l.Create(ctx, r)
	if err != nil {
		return err
	}
	a.greet(made, r, time.Since(start))
	return nil
}

// readSnapshot looks at a file with a snapshot. What is in it is the user's to see to.
func readSnapshot(path string) (*host.Snapshot, error) {
	s, err := host.ReadSnapshot(path)
	if err != nil && !errors.As(err, new(*fs.PathError)) && !errors.Is(err, fs.ErrNotExist) {
		err = usageError{err}
	}
	return s, err
}

func (a *app) inspectSnapshot() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Print what a snapshot says of itself, as JSON",
		Args:  cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("want one file")}
			}
			s, err := readSnapshot(userPath(args[0]))
			if err != nil {
				return err
			}
			enc := json.NewEncoder(a.stdout)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(s.Manifest)
		},
	}
}
