package ginkgolog

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// The logs are those of real runs, with most of what the specs wrote left out.
const testdata = "../testdata"

func specs(t testing.TB, run string) []results.Planned {
	t.Helper()
	info, err := results.ReadInfo(filepath.Join(testdata, run))
	if err != nil {
		t.Fatal(err)
	}
	return info.Planned
}

func parse(specs []results.Planned, data []byte, split func(left int) int) []types.SpecReport {
	var out []types.SpecReport
	p := New(specs, func(r types.SpecReport) { out = append(out, r) })
	for len(data) > 0 {
		n := split(len(data))
		p.Write(data[:n])
		data = data[n:]
	}
	p.Close()
	return out
}

func whole(left int) int { return left }

func log(t testing.TB, run string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, run, "e2e.log"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What the log tells has to be what Ginkgo's own report says.
func TestAgreesWithReport(t *testing.T) {
	for _, run := range []string{"failed", "flaked", "interrupted", "one-process", "setup-failed"} {
		t.Run(run, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(testdata, run, "report.json"))
			if err != nil {
				t.Fatal(err)
			}
			var reports []types.Report
			if err := json.Unmarshal(data, &reports); err != nil {
				t.Fatal(err)
			}
			type result struct {
				State    string
				Attempts int
				Location string
				Message  string
			}
			// of has what both say, of the first of the processes that report a step of the suite.
			of := func(reports []types.SpecReport) map[string]result {
				out := map[string]result{}
				for _, s := range reports {
					if s.State.Is(types.SpecStateSkipped) && s.Failure.Message == "" || isStep(&s) && !s.Failed() {
						continue
					}
					name := s.FullText()
					if isStep(&s) {
						name = s.LeafNodeType.String()
					}
					if _, seen := out[name]; seen {
						if !isStep(&s) {
							t.Errorf("%s: twice", name)
						}
						continue
					}
					r := result{State: s.State.String(), Attempts: max(1, s.NumAttempts)}
					if s.State.Is(types.SpecStateSkipped) || s.Failed() {
						line, _, _ := strings.Cut(strings.TrimSpace(s.Failure.Message), "\n")
						r.Attempts, r.Message, r.Location = 1, strings.TrimSpace(line), s.Failure.Location.String()
					}
					out[name] = r
				}
				return out
			}
			want, got := of(reports[0].SpecReports), of(parse(specs(t, run), log(t, run), whole))
			for name, w := range want {
				if got[name] != w {
					t.Errorf("%s:\n got %+v\nwant %+v", name, got[name], w)
				}
			}
			for name := range got {
				if _, ok := want[name]; !ok {
					t.Errorf("%s: not in the report", name)
				}
			}
		})
	}
}

// A killed run's log ends anywhere.
func TestKilled(t *testing.T) {
	var passed []string
	for _, r := range parse(specs(t, "killed"), log(t, "killed"), whole) {
		if r.State == types.SpecStatePassed && r.RunTime > 0 {
			passed = append(passed, r.FullText())
		}
	}
	want := []string{
		"[sig-network] Services should serve endpoints on same port and different protocol for internal traffic on Type LoadBalancer",
		"[sig-api-machinery] server version should find the server version [Conformance]",
		"[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]",
	}
	slices.Sort(passed)
	slices.Sort(want)
	if !reflect.DeepEqual(passed, want) {
		t.Errorf("got %q", passed)
	}
}

// Pieces of any size give the same.
func TestPieces(t *testing.T) {
	for _, run := range []string{"failed", "flaked", "interrupted", "one-process", "setup-failed", "killed"} {
		s, data := specs(t, run), log(t, run)
		want := parse(s, data, whole)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			got := parse(s, data, func(left int) int { return 1 + rnd.IntN(min(left, 4096)) })
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: pieces give something else", run)
			}
		}
	}
}

// A spec can write what it likes: it counts only where Ginkgo itself writes.
func TestOutputCannotLie(t *testing.T) {
	list := []results.Planned{{Name: "[sig-x] A does a"}, {Name: "[sig-x] B does b", Labels: []string{"Conformance"}}}
	text := `------------------------------
• [FAILED] [1.500 seconds]
[sig-x] A [It] does a
a.go:1

  Timeline >>
  ------------------------------
  • [2.000 seconds]
  [sig-x] B does b [Conformance]
  [FAILED] not the message
  In [It] at: nowhere:1 @ 11/23/26 03:40:08.91
  << Timeline

  [FAILED] the message
  goes on
    indented
  In [It] at: a.go:7 @ 11/23/26 03:40:08.912
------------------------------
• [3.000 seconds]
[sig-x] C does what was not planned
c.go:1
------------------------------
`
	got := parse(list, []byte(text), whole)
	if len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	r := got[0]
	r.CapturedGinkgoWriterOutput = ""
	want := types.SpecReport{
		LeafNodeType: types.NodeTypeIt, LeafNodeText: "[sig-x] A does a", State: types.SpecStateFailed,
		RunTime: 1500 * time.Millisecond, NumAttempts: 1,
		Failure: types.Failure{
			Message: "the message\ngoes on\n  indented", FailureNodeType: types.NodeTypeIt,
			Location: types.CodeLocation{FileName: "a.go", LineNumber: 7},
		},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v", r)
	}
}

func TestLongOutputKeepsItsEnds(t *testing.T) {
	var b strings.Builder
	b.WriteString(delimiter + "\n• [FAILED] [1.000 seconds]\nA\nthe begin\n")
	for b.Len() < 3*maxOutput {
		b.WriteString("  another line of a spec that writes a lot\n")
	}
	b.WriteString("  << Timeline\n\n  [FAILED] the message\n  In [It] at: a.go:7 @ x\n" + delimiter + "\n")
	got := parse([]results.Planned{{Name: "A"}}, []byte(b.String()), whole)
	if len(got) != 1 || got[0].Failure.Message != "the message" {
		t.Fatalf("got %d reports: %.200v", len(got), got)
	}
	output := got[0].CapturedGinkgoWriterOutput
	if n := len(output); n > maxOutput*5/4+100 || !strings.HasPrefix(output, "the begin\n") || !strings.Contains(output, "bytes left out") {
		t.Errorf("%d bytes of output were kept", n)
	}
}

func FuzzParser(f *testing.F) {
	for _, run := range []string{"flaked", "killed", "setup-failed"} {
		data := log(f, run)
		f.Add(data[:min(len(data), 8000)], uint16(7))
	}
	f.Add([]byte(delimiter+"\n↺ [FLAKEY TEST - TOOK 99999999999999999999 ATTEMPTS TO PASS] [1.0 seconds]\nA\n"), uint16(1))
	list := append(specs(f, "flaked"), results.Planned{Name: "A"})
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		names := map[string]bool{}
		for _, s := range list {
			names[s.Name] = true
		}
		reports := parse(list, data, func(left int) int { return min(left, int(piece)+1) })
		for _, r := range reports {
			if !isStep(&r) && !names[r.FullText()] {
				t.Errorf("a spec that was not planned: %q", r.FullText())
			}
			if r.RunTime < 0 || r.NumAttempts < 1 || r.State == types.SpecStateInvalid {
				t.Errorf("%+v", r)
			}
		}
		if again := parse(list, data, whole); !reflect.DeepEqual(again, reports) {
			t.Errorf("pieces of %d bytes give something else", int(piece)+1)
		}
	})
}
