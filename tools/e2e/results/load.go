package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
)

// Load reads a results directory: also that of a run that was killed, or that still goes on.
func Load(dir string) (*Run, error) {
	info, err := ReadInfo(dir)
	if err != nil {
		return nil, err
	}
	r := &Run{Info: info}
	specs, err := readReport(dir)
	switch {
	case err == nil:
		r.Complete = true
		r.add(specs)
		return r, nil
	case !errors.Is(err, fs.ErrNotExist):
		r.Notes = append(r.Notes, fmt.Sprintf("Ginkgo's report cannot be read (%v): the results come from %s.", err, ProgressFile))
	}
	data, err := os.ReadFile(filepath.Join(dir, ProgressFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	specs, broken := parseProgress(data)
	if broken > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d lines of %s are broken and were left out.", broken, ProgressFile))
	}
	r.add(specs)
	return r, nil
}

// readReport reads Ginkgo's report.
func readReport(dir string) ([]types.SpecReport, error) {
	data, err := os.ReadFile(filepath.Join(dir, ReportFile))
	if err != nil {
		return nil, err
	}
	return parseReport(data)
}

func parseReport(data []byte) (specs []types.SpecReport, err error) {
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, err
	}
	if len(reports) == 0 {
		return nil, errors.New("there is no report in it")
	}
	for _, r := range reports {
		specs = append(specs, r.SpecReports...)
	}
	return specs, nil
}

// parseProgress reads progress.jsonl, and counts the lines that it cannot read: the last one may be
// broken off.
func parseProgress(data []byte) (specs []types.SpecReport, broken int) {
	for line := range bytes.Lines(data) {
		var s types.SpecReport
		if err := json.Unmarshal(line, &s); err != nil || s.State == types.SpecStateInvalid || s.EndTime.Before(s.StartTime) {
			broken++
			continue
		}
		specs = append(specs, s)
	}
	return specs, broken
}

// ginkgoDir is the directory for complete reports below ArtifactsDir.
const ginkgoDir = "ginkgo"

// Gather moves the reports to the top of the directory. What else e2e.test has written stays: logs
// of pods.
func Gather(dir string) error {
	artifacts := filepath.Join(dir, ArtifactsDir)
	for from, to := range map[string]string{
		JUnitFile:                            JUnitFile,
		filepath.Join(ginkgoDir, ReportFile): ReportFile,
	} {
		err := os.Rename(filepath.Join(artifacts, from), filepath.Join(dir, to))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// The rest is the same once more as JUnit.
	if err := os.RemoveAll(filepath.Join(artifacts, ginkgoDir)); err != nil {
		return err
	}
	// Only if nothing is in it.
	_ = os.Remove(artifacts)
	return nil
}

// plan makes every planned spec one that has not run, and returns them by name.
func (r *Run) plan() map[string]*Spec {
	r.Specs = make([]Spec, len(r.Planned))
	byName := make(map[string]*Spec, len(r.Planned))
	for i, p := range r.Planned {
		r.Specs[i] = Spec{Name: p.Name, Labels: p.Labels, Serial: p.Serial, State: NotRun}
		if p.LeftOut != "" {
			r.Specs[i].State, r.Specs[i].Reason = Skipped, p.LeftOut
		}
		byName[p.Name] = &r.Specs[i]
	}
	return byName
}

// add takes over what Ginkgo reports.
func (r *Run) add(specs []types.SpecReport) {
	byName := r.plan()
	for i := range specs {
		s := &specs[i]
		if step, failed := FailedStep(s); failed {
			r.Setup = append(r.Setup, step)
		} else if spec := byName[s.FullText()]; spec != nil {
			spec.Fill(s)
		}
	}
}

// echo is how every other process reports that the first one's preparations failed.
var echo = regexp.MustCompile(`^(?:\x1b\[[0-9;]*m)*Synchronized\w+ failed on Ginkgo parallel process #1`)

// FailedStep returns a report of a step of the whole suite that failed, such as
// SynchronizedBeforeSuite, and not only because the same step failed in another process.
func FailedStep(s *types.SpecReport) (step Spec, failed bool) {
	if !s.LeafNodeType.Is(types.NodeTypesForSuiteLevelNodes) || !s.Failed() || echo.MatchString(s.Failure.Message) {
		return Spec{}, false
	}
	step.Name = strings.TrimSpace("[" + s.LeafNodeType.String() + "] " + s.LeafNodeText)
	step.Fill(s)
	return step, true
}

// colour is an escape sequence for terminals; some of Ginkgo's messages have them in any case.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

// Plain takes the colours out of a text.
func Plain(s string) string { return colour.ReplaceAllString(s, "") }

// Fill takes over what Ginkgo reports of a spec, except its name.
func (spec *Spec) Fill(s *types.SpecReport) {
	switch {
	case s.State.Is(types.SpecStateSkipped) && s.Failure.Message == "", s.State.Is(types.SpecStatePending):
		// Only the run itself skips a spec that was selected.
		return
	case s.State.Is(types.SpecStateSkipped):
		spec.State, spec.Reason = Skipped, Plain(s.Failure.Message)
	case s.State.Is(types.SpecStatePassed) && s.NumAttempts > 1 && s.MaxFlakeAttempts > 1:
		spec.State = Flaked
	case s.State.Is(types.SpecStatePassed):
		spec.State = Passed
	case s.State.Is(types.SpecStateInterrupted):
		spec.State = Unfinished
	default:
		spec.State, spec.Detail = Failed, s.State.String()
	}
	spec.Start, spec.End = s.StartTime, s.EndTime
	if spec.End.Before(spec.Start) {
		spec.End = spec.Start.Add(s.RunTime)
	}
	spec.Process, spec.Attempts = s.ParallelProcess, s.NumAttempts
	if spec.State == Passed || spec.State == Skipped {
		return
	}
	if s.Failed() {
		spec.Failures = append(spec.Failures, failure(s.Failure))
		if more := s.Failure.AdditionalFailure; more != nil {
			spec.Failures = append(spec.Failures, failure(more.Failure))
		}
	}
	for _, more := range s.AdditionalFailures {
		spec.Failures = append(spec.Failures, failure(more.Failure))
	}
	spec.Output = output(s)
}

func failure(f types.Failure) Failure {
	out := Failure{Message: Plain(f.Message), Stack: f.Location.FullStackTrace}
	if f.Location.FileName != "" {
		out.Location = Location(f.Location.String())
	}
	if f.ForwardedPanic != "" {
		out.Message += ": " + f.ForwardedPanic
	}
	if f.FailureNodeType != types.NodeTypeInvalid {
		out.Node = f.FailureNodeType.String()
	}
	return out
}

// repository is the directory in which Bazel compiles another repository's files.
var repository = regexp.MustCompile(`^(?:\./)?external/[^/]+/`)

// Location shortens a file's name to the path in its own repository.
func Location(s string) string { return repository.ReplaceAllString(s, "") }

// output puts the steps of a spec between what it wrote, at their places, as Ginkgo prints them.
func output(s *types.SpecReport) string {
	var b strings.Builder
	written, done := s.CapturedGinkgoWriterOutput, 0
	for _, event := range s.Timeline() {
		var line string
		switch e := event.(type) {
		case types.SpecEvent:
			switch e.SpecEventType {
			case types.SpecEventByStart:
				line = "STEP: " + e.Message
			case types.SpecEventSpecRetry:
				line = fmt.Sprintf("=== attempt %d failed, trying again ===", e.Attempt)
			default:
				continue
			}
		case types.Failure:
			line = "[" + s.State.String() + "] " + firstLine(e.Message)
		default:
			continue
		}
		at := event.GetTimelineLocation()
		if at.Time.IsZero() { // of progress.jsonl, where it is part of what was written
			continue
		}
		if end := min(at.Offset, len(written)); end > done {
			b.WriteString(written[done:end])
			done = end
		}
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s @ %s\n", line, at.Time.Format("15:04:05.000"))
	}
	b.WriteString(written[done:])
	if s.CapturedStdOutErr != "" {
		b.WriteString("\n=== standard output and error ===\n" + s.CapturedStdOutErr)
	}
	return Plain(b.String())
}

func firstLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	return s
}
