// Command table writes which images each spec of e2e.test may use, for the e2e program:
// tools/e2e/missing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/e2e/images/needs"
	"github.com/dind-cluster/dind-cluster/internal/cli"
	"github.com/dind-cluster/dind-cluster/tools/e2e/missing"
)

// cuts are functions whose images no spec needs, although the specs' code mentions them.
var cuts = []needs.Cut{{
	Func:   "test/e2e/framework/security.LoadAppArmorProfiles",
	Reason: "these specs skip themselves, unless told that the nodes are of a distribution which has AppArmor (--node-os-distro)",
}}

func main() {
	e2e := flag.String("e2e", "", "e2e.test")
	sources := flag.String("sources", "", "tar archive of its sources")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	cli.End("table", run(*e2e, *sources, *out))
}

func run(e2e, sources, out string) error {
	version, err := exec.Command(e2e, "--version").Output()
	if err != nil {
		return fmt.Errorf("asking e2e.test for its version: %w", err)
	}
	dir, err := os.MkdirTemp("", "table-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	report, err := needs.DryRun(e2e, filepath.Join(dir, "report.json"))
	if err != nil {
		return err
	}
	defer report.Close()
	files, err := needs.ReadSources(sources)
	if err != nil {
		return err
	}
	listed, err := needs.Listed(e2e)
	if err != nil {
		return err
	}
	specs, err := needs.Table(files, report, listed, cuts, needs.Absent)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(missing.NewTable(strings.TrimSpace(string(version)), specs).Write(f), f.Close())
}
