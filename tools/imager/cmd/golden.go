package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/mtree"
)

// shownDifferences bounds a report: more than a screen of them is a new image.
const shownDifferences = 60

type goldenFlags struct {
	golden, updateCommand string
	ignore                []string
	update                bool
}

func newGolden() *cobra.Command {
	f := &goldenFlags{}
	c := &cobra.Command{
		Use:   "golden --golden file listing…",
		Short: "Compare listings of layers with a golden one",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, listings []string) error { return f.run(listings) },
	}
	c.Flags().StringVar(&f.golden, "golden", "", "the golden listing")
	c.Flags().StringArrayVar(&f.ignore, "ignore-content", nil, "pattern of paths whose size and checksum do not count")
	c.Flags().BoolVar(&f.update, "update", false, "write the golden listing instead")
	c.Flags().StringVar(&f.updateCommand, "update-command", "", "what to tell the user to run")
	_ = c.MarkFlagRequired("golden")
	return c
}

func (f *goldenFlags) run(listings []string) error {
	actual, err := f.join(listings)
	if err != nil {
		return err
	}
	if f.update {
		golden := f.golden
		if workspace := os.Getenv("BUILD_WORKSPACE_DIRECTORY"); workspace != "" {
			golden = filepath.Join(workspace, golden)
		}
		return writeFile(golden, []byte(actual))
	}
	golden, err := os.ReadFile(f.golden)
	if err != nil {
		return fmt.Errorf("reading golden: %w", err)
	}
	differences, err := mtree.Diff(string(golden), actual)
	if err != nil || len(differences) == 0 {
		return err
	}
	var report strings.Builder
	fmt.Fprintf(&report, "%d paths differ from %s:\n", len(differences), f.golden)
	for i, d := range differences {
		if i == shownDifferences {
			fmt.Fprintf(&report, "… and %d more\n", len(differences)-i)
			break
		}
		fmt.Fprintln(&report, d)
	}
	if f.updateCommand != "" {
		fmt.Fprintf(&report, "If this is as it should be: %s", f.updateCommand)
	}
	return errors.New(report.String())
}

func (f *goldenFlags) join(listings []string) (string, error) {
	var all strings.Builder
	for _, path := range listings {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("reading listing: %w", err)
		}
		all.Write(text)
	}
	return mtree.Blur(all.String(), func(p string) bool {
		for _, pattern := range f.ignore {
			if declare.Match(pattern, p) {
				return true
			}
		}
		return false
	}), nil
}
