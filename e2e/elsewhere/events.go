package elsewhere

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Metrics is what a build came to.
type Metrics struct {
	// Runners says how many processes were run by what: linux-sandbox, local. "remote cache hit" and "disk cache hit" are
	// those whose outputs came from a cache, "internal" are what Bazel does itself, and "total" is the sum of all.
	Runners map[string]int
	// Actions says how many actions were done, in whatever way, by mnemonic: the twenty most frequent ones.
	Actions map[string]int
	// Wall is how long the build took; Execution is its last part, in which actions were done.
	Wall, Execution time.Duration
}

// Events are the options that make Bazel write the file that ReadMetrics reads, and leave what its events refer to where it is,
// not in a remote cache.
func Events(path string) []string {
	return []string{"--build_event_json_file=" + path, "--experimental_build_event_upload_strategy=local"}
}

// ReadMetrics reads the metrics that Bazel wrote at the end of a build's events.
func ReadMetrics(path string) (*Metrics, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readMetrics(f)
	if err != nil {
		return nil, fmt.Errorf("read build events %s: %w", path, err)
	}
	return m, nil
}

func readMetrics(r io.Reader) (*Metrics, error) {
	d := json.NewDecoder(r)
	for {
		var event struct {
			BuildMetrics *struct {
				ActionSummary struct {
					ActionData []struct {
						Mnemonic string `json:"mnemonic"`
						// A 64-bit number, which protobuf writes as text.
						ActionsExecuted int `json:"actionsExecuted,string"`
					} `json:"actionData"`
					RunnerCount []struct {
						Name  string `json:"name"`
						Count int    `json:"count"`
					} `json:"runnerCount"`
				} `json:"actionSummary"`
				TimingMetrics struct {
					Wall      int64 `json:"wallTimeInMs,string"`
					Execution int64 `json:"executionPhaseTimeInMs,string"`
				} `json:"timingMetrics"`
			} `json:"buildMetrics"`
		}
		err := d.Decode(&event)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no metrics: the build did not end by itself")
		}
		if err != nil {
			return nil, err
		}
		if event.BuildMetrics == nil {
			continue
		}
		m := &Metrics{
			Runners:   map[string]int{},
			Actions:   map[string]int{},
			Wall:      time.Duration(event.BuildMetrics.TimingMetrics.Wall) * time.Millisecond,
			Execution: time.Duration(event.BuildMetrics.TimingMetrics.Execution) * time.Millisecond,
		}
		for _, a := range event.BuildMetrics.ActionSummary.ActionData {
			m.Actions[a.Mnemonic] += a.ActionsExecuted
		}
		for _, r := range event.BuildMetrics.ActionSummary.RunnerCount {
			m.Runners[r.Name] += r.Count
		}
		return m, nil
	}
}
