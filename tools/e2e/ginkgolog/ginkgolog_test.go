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

	"github.com/onsi/ginkgo/v2/types"
)

// The logs are those of real runs, with most of what the specs wrote left out.
const testdata = "../testdata"

func specs(t testing.TB, run string) []Spec {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, run, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Specs []Spec }
	if err := json.Unmarshal(data, &info); err != nil {
		t.Fatal(err)
	}
	return info.Specs
}

func parse(specs []Spec, data []byte, split func(left int) int) []Record {
	var out []Record
	p := New(specs, func(r Record) { out = append(out, r) })
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
			first := func(s string) string {
				line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
				return strings.TrimSpace(line)
			}
			want := map[string]result{}
			for _, s := range reports[0].SpecReports {
				if s.State.Is(types.SpecStateSkipped) && s.Failure.Message == "" {
					continue
				}
				name := s.FullText()
				if s.LeafNodeType != types.NodeTypeIt {
					if !s.Failed() {
						continue
					}
					name = "[" + s.LeafNodeType.String() + "]"
					if _, seen := want[name]; seen {
						continue
					}
				}
				r := result{State: s.State.String(), Attempts: max(1, s.NumAttempts)}
				if s.State.Is(types.SpecStateSkipped) || s.Failed() {
					r.Attempts, r.Message, r.Location = 1, first(s.Failure.Message), s.Failure.Location.String()
				}
				want[name] = r
			}
			got := map[string]result{}
			for _, r := range parse(specs(t, run), log(t, run), whole) {
				if _, seen := got[r.Name]; seen && !r.Setup {
					t.Errorf("%s: twice", r.Name)
				} else if !seen {
					got[r.Name] = result{r.State, r.Attempts, r.Location, first(r.Message)}
				}
			}
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
		if r.State == "passed" && r.Seconds > 0 {
			passed = append(passed, r.Name)
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
	list := []Spec{{Name: "[sig-x] A does a"}, {Name: "[sig-x] B does b", Labels: []string{"Conformance"}}}
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
	r.Output = ""
	want := Record{
		Name: "[sig-x] A does a", State: "failed", Seconds: 1.5, Attempts: 1,
		Message: "the message\ngoes on\n  indented", Node: "It", Location: "a.go:7",
	}
	if r != want {
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
	got := parse([]Spec{{Name: "A"}}, []byte(b.String()), whole)
	if len(got) != 1 || got[0].Message != "the message" || !strings.HasPrefix(got[0].Output, "the begin\n") {
		t.Fatalf("got %d records, message %q", len(got), got[0].Message)
	}
	if n := len(got[0].Output); n > maxOutput*5/4+100 || !strings.Contains(got[0].Output, "bytes left out") {
		t.Errorf("%d bytes of output were kept", n)
	}
}

func FuzzParser(f *testing.F) {
	for _, run := range []string{"flaked", "killed", "setup-failed"} {
		data := log(f, run)
		f.Add(data[:min(len(data), 8000)], uint16(7))
	}
	f.Add([]byte(delimiter+"\n↺ [FLAKEY TEST - TOOK 99999999999999999999 ATTEMPTS TO PASS] [1.0 seconds]\nA\n"), uint16(1))
	list := append(specs(f, "flaked"), Spec{Name: "A"})
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		names := map[string]bool{}
		for _, s := range list {
			names[s.Name] = true
		}
		records := parse(list, data, func(left int) int { return min(left, int(piece)+1) })
		for _, r := range records {
			if !r.Setup && !names[r.Name] {
				t.Errorf("a spec that was not planned: %q", r.Name)
			}
			if r.Seconds < 0 || r.Attempts < 1 || r.State == "" {
				t.Errorf("%+v", r)
			}
		}
		if again := parse(list, data, whole); !reflect.DeepEqual(again, records) {
			t.Errorf("pieces of %d bytes give something else", int(piece)+1)
		}
	})
}
