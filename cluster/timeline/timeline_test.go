package timeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	var r Recorder
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { r.Add(Span{Lane: "worker1", Name: "network", Start: start, End: start.Add(time.Microsecond)}) })
	}
	group.Wait()
	path := filepath.Join(t.TempDir(), "timeline.json")
	want := Timeline{Start: start, End: start.Add(time.Second), Ready: true}
	if err := r.Write(path, want); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want.Spans = r.spans
	if !reflect.DeepEqual(got, want) || len(got.Spans) != 20 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := r.Write(filepath.Join(path, "x"), want); err == nil {
		t.Error("no error for a path that cannot be")
	}
}

func TestParseBad(t *testing.T) {
	for text, want := range map[string]string{
		"{": "reading the timeline",
		`{"spans":[{"name":"x","start":"2026-01-02T00:00:01Z","end":"2026-01-02T00:00:00Z"}]}`: "bad span",
		`{"spans":[{"start":"2026-01-02T00:00:01Z","end":"2026-01-02T00:00:02Z"}]}`:            "bad span",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"start":"2026-01-02T00:00:01Z","spans":[{"name":"x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		line, err := Parse(data)
		if err != nil {
			return
		}
		for _, s := range line.Spans {
			if s.End.Sub(s.Start) < 0 {
				t.Errorf("%+v", s)
			}
		}
		written, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(written) {
			t.Errorf("%s, then %s, %v", written, twice, err)
		}
	})
}
