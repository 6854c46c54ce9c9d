// Package timeline records when the pieces of a start began and ended, for programs that measure
// starts.
//
// The runner writes the file when a cluster is ready or has failed: one JSON object, times in RFC
// 3339 with nanoseconds. All containers of a cluster share the kernel's clock, so the times of all
// nodes compare.
package timeline

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// Span is one piece of work.
type Span struct {
	// Lane is where it was done: the name of a node, or "" for the top-level container.
	Lane string `json:"lane,omitempty"`
	// Name is what was done, in the words of the progress.
	Name  string    `json:"name"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Failed reports whether it ended with an error.
	Failed bool `json:"failed,omitempty"`
}

// Timeline is the content of the file.
type Timeline struct {
	// Start is when the top-level container's entrypoint began.
	Start time.Time `json:"start"`
	// End is when the cluster was ready, or was given up.
	End   time.Time `json:"end"`
	Ready bool      `json:"ready"`
	// Resumed reports whether the cluster existed before and was only started again.
	Resumed bool   `json:"resumed,omitempty"`
	Spans   []Span `json:"spans"`
}

// Recorder gathers spans. It is safe for use by several goroutines. The zero Recorder is ready to
// use.
type Recorder struct {
	mu    sync.Mutex
	spans []Span
}

// Add records a span.
func (r *Recorder) Add(s Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// If the clock was set meanwhile, the duration is still right.
	s.End = s.Start.Add(s.End.Sub(s.Start))
	r.spans = append(r.spans, s)
}

// Write writes what was recorded to a file, which is complete as soon as it is there. The spans of
// t are replaced.
func (r *Recorder) Write(path string, t Timeline) error {
	r.mu.Lock()
	t.Spans = append([]Span{}, r.spans...)
	r.mu.Unlock()
	data, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("writing the timeline: %w", err)
	}
	if err := renameio.WriteFile(path, append(data, '\n'), 0o644, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("writing the timeline: %w", err)
	}
	return nil
}

// Parse reads what Write wrote. It returns an error for spans that end before they begin.
func Parse(data []byte) (Timeline, error) {
	var t Timeline
	if err := json.Unmarshal(data, &t); err != nil {
		return Timeline{}, fmt.Errorf("reading the timeline: %w", err)
	}
	for _, s := range t.Spans {
		if s.Name == "" || s.End.Before(s.Start) {
			return Timeline{}, fmt.Errorf("reading the timeline: bad span %+v", s)
		}
	}
	return t, nil
}
