// Package verbs has the commands that change a running cluster or look at it. The launcher and the runner have the same: what
// they lead to is a control.Request.
package verbs

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/api/config"
	"github.com/dind-cluster/dind-cluster/cluster/control"
)

// Program is what the two programs do differently.
type Program struct {
	// Perform carries out a request.
	Perform func(context.Context, control.Request, func(control.Event)) error
	// Stdin is for files named "-". Path resolves the path of a file that the user gave.
	Stdin  io.Reader
	Path   func(string) string
	Stdout io.Writer
	Stderr io.Writer
}

// Commands returns the commands.
func (p Program) Commands() []*cobra.Command {
	node := &cobra.Command{
		Use:   "node",
		Short: "Add, remove, stop, start, restart and list nodes",
	}
	node.AddCommand(p.add(), p.remove(), p.nodes(control.Restart, "Stop nodes and start them again"),
		p.nodes(control.Stop, "Stop nodes, as if their machines were switched off"),
		p.nodes(control.Start, "Start nodes that were stopped, and wait until they are ready"), p.list())
	return []*cobra.Command{node, p.scale(), p.wait(), p.status()}
}

// perform carries out a request and shows what comes of it.
func (p Program) perform(ctx context.Context, r control.Request) error {
	return p.Perform(ctx, r, func(e control.Event) {
		io.WriteString(p.Stderr, e.Log)
		io.WriteString(p.Stdout, e.Output)
	})
}

func (p Program) add() *cobra.Command {
	r := control.Request{Verb: control.Add}
	var from string
	cmd := &cobra.Command{
		Use:   "add [NAME...]",
		Short: "Add nodes, and wait until pods can run on them",
		Long: `Adds nodes, all that were asked for or none, and waits until pods can run on them. Without names they
get the next free ones.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Nodes = names
			if cmd.Flags().Changed("count") && r.Count < 1 {
				return control.Usage("--count %d: want 1 or more", r.Count)
			}
			if cmd.Flags().Changed("from") {
				file, err := p.read(from)
				if err != nil {
					return err
				}
				r.File = file
			}
			return p.perform(cmd.Context(), r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Role, "role", "", "worker or control-plane (default: worker)")
	f.IntVar(&r.Count, "count", 0, "how many (default: 1)")
	f.StringArrayVar(&r.Labels, "label", nil, "label of the nodes as KEY=VALUE; may be repeated")
	f.StringArrayVar(&r.Taints, "taint", nil, "taint of the nodes as KEY=VALUE:EFFECT or KEY:EFFECT; may be repeated")
	f.StringVar(&from, "from", "", "`file` with a node as the configuration file has it; - means standard input")
	p.timeout(cmd, &r, "how long it may take (default: what the cluster's start may take)")
	return cmd
}

// read reads a file that the user named.
func (p Program) read(path string) (*control.File, error) {
	name, in := path, p.Stdin
	switch path {
	case "":
		return nil, control.Usage("--from: want a file, or - for standard input")
	case "-":
		name = "standard input"
	default:
		f, err := os.Open(p.Path(path))
		if err != nil {
			return nil, fmt.Errorf("reading the description of a node: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the description of a node: %w", err)
	}
	return &control.File{Name: name, Data: data}, nil
}

func (p Program) timeout(cmd *cobra.Command, r *control.Request, usage string) {
	cmd.Flags().DurationVar(&r.Timeout, "timeout", 0, usage)
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("timeout") && r.Timeout <= 0 {
			return control.Usage("--timeout %v: want a duration such as 90s or 5m", r.Timeout)
		}
		return run(cmd, args)
	}
}

func (p Program) remove() *cobra.Command {
	r := control.Request{Verb: control.Remove}
	cmd := &cobra.Command{
		Use:   "remove NAME...",
		Short: "Drain nodes and remove them",
		Long: `Drains nodes and removes them: their pods are evicted, as disruption budgets allow, and made anew on other
nodes. Pods that nothing would make anew are a reason not to begin. A control plane leaves etcd; the last
one cannot be removed.`,
		Args: atLeastOne,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Nodes = names
			return p.perform(cmd.Context(), r)
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "do not drain: what runs there ends at once")
	p.timeout(cmd, &r, "how long draining may take (default: what the cluster's start may take)")
	return cmd
}

func (p Program) nodes(verb, short string) *cobra.Command {
	r := control.Request{Verb: verb}
	cmd := &cobra.Command{
		Use:   strings.TrimPrefix(verb, "node ") + " NAME...",
		Short: short,
		Args:  atLeastOne,
		RunE: func(cmd *cobra.Command, names []string) error {
			r.Nodes = names
			return p.perform(cmd.Context(), r)
		},
	}
	p.timeout(cmd, &r, "how long it may take (default: what the cluster's start may take)")
	return cmd
}

func (p Program) list() *cobra.Command {
	return p.report(control.List, "list", "List the nodes")
}

func (p Program) status() *cobra.Command {
	return p.report(control.Status, "status", "Show nodes, components and certificates of a cluster")
}

func (p Program) report(verb, use, short string) *cobra.Command {
	r := control.Request{Verb: verb}
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  none,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.perform(cmd.Context(), r) },
	}
	cmd.Flags().StringVar(&r.Output, "output", "text", "text or json")
	return cmd
}

func (p Program) scale() *cobra.Command {
	r := control.Request{Verb: control.Scale}
	cmd := &cobra.Command{
		Use:   "scale WORKERS",
		Short: "Add workers, or drain and remove those of the highest numbers, until there are so many",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return control.Usage("want one number of workers")
			}
			if _, err := fmt.Sscanf(args[0]+" end", "%d end", &r.Workers); err != nil {
				return control.Usage("%q: want a number of workers", args[0])
			}
			return p.perform(cmd.Context(), r)
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "do not drain: what runs there ends at once")
	p.timeout(cmd, &r, "how long it may take (default: what the cluster's start may take)")
	return cmd
}

func (p Program) wait() *cobra.Command {
	r := control.Request{Verb: control.Wait}
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until a cluster or its nodes are ready",
		Args:  none,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.perform(cmd.Context(), r) },
	}
	cmd.Flags().StringArrayVar(&r.For, "for", []string{"ready"}, "what to wait for: ready (the cluster and its nodes), api, nodes, nodes=NUMBER or node/NAME; may be repeated")
	p.timeout(cmd, &r, "how long to wait")
	cmd.Flags().Lookup("timeout").DefValue = (5 * time.Minute).String()
	return cmd
}

func none(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return control.Usage("unexpected argument %q", args[0])
	}
	return nil
}

func atLeastOne(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return control.Usage("want the names of nodes")
	}
	return nil
}

// Command returns the command among the arguments of exec, NODE [--] COMMAND. A flag set that leaves all
// that follows the node to the command leaves the dashes, too.
func Command(args []string) []string {
	if len(args) > 1 && args[1] == "--" {
		return args[2:]
	}
	return args[min(1, len(args)):]
}
