package run

import (
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/tools/e2e/certification"
	"github.com/dind-cluster/dind-cluster/tools/e2e/page"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// Report makes the summary, the page and the directory for the certification from what a run left
// in its directory, and returns what came of the run. It may be called as often as one likes, also
// while the run goes on.
func Report(dir string) (*results.Run, error) { return report(dir, locked(dir)) }

// report is Report, of a run that goes on or not.
func report(dir string, running bool) (*results.Run, error) {
	if !running {
		if err := results.Gather(dir); err != nil {
			return nil, err
		}
	}
	r, err := results.Load(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case running:
		r.Running = true
		r.Notes = append(r.Notes, "The run goes on: specs that are running are among those not run.")
	case r.End == nil:
		r.Notes = append(r.Notes, "This run was killed before it recorded its end: specs that were running then are among those not run.")
	case !r.Complete:
		r.Notes = append(r.Notes, "Ginkgo wrote no report: the results come from "+results.ProgressFile+", and which process ran a spec is not known.")
	}
	if _, err := os.Stat(filepath.Join(dir, results.JUnitFile)); err != nil && r.End != nil {
		r.Notes = append(r.Notes, "There is no "+results.JUnitFile+": e2e.test writes it last, and did not come to it.")
	}
	reason, err := certification.Write(dir, r)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		r.Notes = append(r.Notes, "No directory for CNCF's certification: "+reason+".")
	}
	if err := r.WriteSummary(dir); err != nil {
		return nil, err
	}
	return r, page.Write(dir, r)
}
