package cmd

import (
	"errors"
	"fmt"
	"os"

	"github.com/dind-cluster/dind-cluster/cluster"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/tools/internal/verbs"
	"github.com/spf13/cobra"
)

// verbCommands are those that the launcher has, too.
func verbCommands() []*cobra.Command {
	p := verbs.Program{
		Perform: cluster.Perform,
		Stdin:   os.Stdin,
		Path:    func(path string) string { return path },
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
	}
	all := append(p.Commands(), newPause(), newUnpause(), newExec(), newCopy())
	for _, c := range all {
		if c.Name() == "node" {
			// In a node it has no verb: `runner node` is a unit there.
			unit := newNode()
			c.Short, c.Args, c.RunE = c.Short+"; without a verb: "+unit.Short, unit.Args, unit.RunE
		}
		c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return control.Usage("%v", err) })
	}
	return all
}

func newControl() *cobra.Command {
	return &cobra.Command{
		Use:    "control",
		Short:  "Carries out a request that comes as JSON on standard input (called by the launcher)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			control.Answer(cmd.Context(), os.Stdin, os.Stdout, cluster.Perform)
			return nil
		},
	}
}

func newPause() *cobra.Command {
	return &cobra.Command{
		Use:   "pause",
		Short: "Prepares the cluster for docker pause: its controllers are held until all nodes have reported after it",
		Long: `Prepares the cluster for docker pause: its controllers are held, and go on when all nodes have reported after
docker unpause, or when no pause comes within a minute.`,
		Example: "  docker exec NAME runner pause && docker pause NAME",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.Perform(cmd.Context(), control.Request{Verb: control.Pause}, func(e control.Event) { fmt.Fprint(os.Stderr, e.Log) })
		},
	}
}

func newUnpause() *cobra.Command {
	return &cobra.Command{
		Use:     "unpause",
		Short:   "Waits until the controllers of a cluster that was paused go on",
		Example: "  docker unpause NAME && docker exec NAME runner unpause",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cluster.Perform(cmd.Context(), control.Request{Verb: control.Unpause}, func(control.Event) {})
		},
	}
}

// status returns the exit status for an error.
func status(err error) int {
	var request *control.Error
	var ended *cluster.ExitError
	switch {
	case errors.As(err, &ended):
		return ended.Status
	case errors.As(err, &request) && request.Usage:
		return 2
	}
	return 1
}
