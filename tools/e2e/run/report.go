package run

import (
	"os"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/tools/e2e/certification"
	"github.com/dind-cluster/dind-cluster/tools/e2e/page"
	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// Report makes the summary, the page and the folder for the certification from what a run left in its folder, and
// returns what came of the run. It may be called as often as one likes.
func Report(dir string) (*results.Run, error) {
	if err := results.Gather(dir); err != nil {
		return nil, err
	}
	r, err := results.Load(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, results.JUnitFile)); err != nil && r.End != nil {
		r.Notes = append(r.Notes, "There is no "+results.JUnitFile+": e2e.test writes it last, and did not come to it.")
	}
	reason, err := certification.Write(dir, r)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		r.Notes = append(r.Notes, "No folder for CNCF's certification: "+reason+".")
	}
	if err := r.WriteSummary(dir); err != nil {
		return nil, err
	}
	return r, page.Write(dir, r)
}
