package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// The files of a results directory.
const (
	// InfoFile says what runs, see Info. It is written first and marks the directory as ours.
	InfoFile = "run.json"
	// ProgressFile gets a line as a spec, or a step of the whole suite, ends: what Ginkgo's report
	// will say of it, as far as that is known, as JSON (types.SpecReport).
	ProgressFile = "progress.jsonl"
	// LogFile is all that ginkgo and e2e.test print.
	LogFile = "e2e.log"
	// JUnitFile is e2e.test's report for programs, written at the end.
	JUnitFile = "junit_01.xml"
	// ReportFile is Ginkgo's report, which has all, written at the end.
	ReportFile = "report.json"
	// SummaryFile is for people.
	SummaryFile = "summary.txt"
	// PageFile is for people with a browser.
	PageFile = "report.html"
	// CertificationDir is what CNCF's certification asks for.
	CertificationDir = "certification"
	// LogsDir has the logs of nodes and pods.
	LogsDir = "logs"
	// ArtifactsDir is e2e.test's own directory: it puts its reports there, and logs of pods of
	// specs that failed.
	ArtifactsDir = "artifacts"
)

// kind marks our run.json files.
const kind = "dind-cluster e2e run"

// format is the version of run.json.
const format = 1

// Info is what is known about a run before its end, and how it ended.
type Info struct {
	Kind   string `json:"kind"`
	Format int    `json:"format"`
	// Version is that of e2e.test, such as v1.37.2.
	Version string `json:"version"`
	// PID is the number of the process that writes, or has written, these results.
	PID int `json:"pid"`
	// Server is the version of the cluster's API server.
	Server string `json:"server"`
	// Product reports whether the run went on inside a dind-cluster, and tested it.
	Product bool `json:"product"`
	// Selection is what was asked for.
	Selection Selection `json:"selection"`
	// Conformance reports whether exactly the conformance specs were selected, all of them.
	Conformance bool `json:"conformance"`
	// Total is the number of specs in e2e.test.
	Total int `json:"total"`
	// Processes is how many ran specs side by side.
	Processes int `json:"processes"`
	// FlakeAttempts is how often a spec was tried at most.
	FlakeAttempts int `json:"flakeAttempts"`
	// Command is ginkgo's command line.
	Command []string  `json:"command"`
	Start   time.Time `json:"start"`
	// End is missing while the run goes on, and if it was killed.
	End *time.Time `json:"end,omitempty"`
	// Cause is why the run was stopped; empty if it was not.
	Cause string `json:"cause,omitempty"`
	// GinkgoStatus is ginkgo's exit status; -1 if it was killed.
	GinkgoStatus int `json:"ginkgoStatus"`
	// Planned are the specs that were selected.
	Planned []Planned `json:"specs"`
}

// Selection says which specs to run. The lists' members are alternatives; the fields all have to be
// met.
type Selection struct {
	// Focus and Skip are regular expressions for full names.
	Focus []string `json:"focus,omitempty"`
	Skip  []string `json:"skip,omitempty"`
	// LabelFilter is Ginkgo's expression.
	LabelFilter string `json:"labelFilter,omitempty"`
	// Specs are full names; each is an alternative to Focus.
	Specs []string `json:"specs,omitempty"`
}

// Planned is a spec that was selected.
type Planned struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels,omitempty"`
	Serial bool     `json:"serial,omitempty"`
	// LeftOut is why it does not run after all; empty if it does.
	LeftOut string `json:"leftOut,omitempty"`
}

// CommandLine is ginkgo's command line as a shell understands it.
func (i Info) CommandLine() string {
	out := make([]string, len(i.Command))
	for n, a := range i.Command {
		out[n] = quote(a)
	}
	return strings.Join(out, " ")
}

// quote writes a word so that a shell understands it.
func quote(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n'\"\\$`|&;<>()[]{}*?!#~^") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ours are all names that a run may write.
var ours = []string{
	InfoFile, ProgressFile, LogFile, JUnitFile, ReportFile, SummaryFile, PageFile,
	CertificationDir, LogsDir, ArtifactsDir,
}

// Check reports whether a run may write into the directory: there is none, it is empty, or it has an earlier run's results.
func Check(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot use the results directory: %w; give another one with --results", err)
	}
	if len(entries) == 0 {
		return nil
	}
	if _, err := ReadInfo(dir); err != nil {
		return fmt.Errorf("the results directory %s is not empty and holds no earlier results of this program: empty it, or give another one with --results", dir)
	}
	return nil
}

// Prepare makes the directory ready for a new run: it removes an earlier run's results, and nothing else.
func Prepare(dir string) error {
	if err := Check(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the results directory: %w; give another one with --results", err)
	}
	// The mark goes last: a run that is interrupted here can be started again.
	for i := len(ours) - 1; i >= 0; i-- {
		if err := os.RemoveAll(filepath.Join(dir, ours[i])); err != nil {
			return fmt.Errorf("cannot remove earlier results: %w", err)
		}
	}
	return nil
}

// ReadInfo reads run.json. The error says what the directory is not.
func ReadInfo(dir string) (Info, error) {
	path := filepath.Join(dir, InfoFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%s has no results: there is no %s in it", dir, InfoFile)
	}
	if err != nil {
		return Info{}, err
	}
	info, err := parseInfo(data)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

func parseInfo(data []byte) (Info, error) {
	var info Info
	if err := json.Unmarshal(data, &info); err != nil {
		return Info{}, err
	}
	if info.Kind != kind {
		return Info{}, errors.New("not the results of this program")
	}
	if info.Format != format {
		return Info{}, fmt.Errorf("format %d; this program knows %d", info.Format, format)
	}
	return info, nil
}

// Write writes run.json, all of it or nothing.
func (i Info) Write(dir string) error {
	i.Kind, i.Format = kind, format
	data, err := json.MarshalIndent(i, "", " ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, InfoFile), append(data, '\n'), 0o644, renameio.WithTempDir(dir))
}
