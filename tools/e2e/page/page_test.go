package page

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
	"github.com/dind-cluster/dind-cluster/tools/internal/htmlpage/browsertest"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

// render makes the page of a run in a directory of its own, and returns it parsed and as it is.
func render(t *testing.T, dir string, r *results.Run) (*html.Node, string) {
	t.Helper()
	if err := Write(dir, r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, results.PageFile))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return doc, string(data)
}

func elements(n *html.Node, visit func(*html.Node)) {
	if n.Type == html.ElementNode {
		visit(n)
	}
	for c := range n.ChildNodes() {
		elements(c, visit)
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func text(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var b strings.Builder
	for c := range n.ChildNodes() {
		b.WriteString(text(c))
	}
	return b.String()
}

// check reports what is wrong with any page: specs that are missing, what comes from elsewhere, links
// that lead nowhere.
func check(t *testing.T, doc *html.Node, r *results.Run) {
	t.Helper()
	ids, rows := map[string]bool{}, map[string]string{}
	bars := 0
	var links []string
	known := map[string]bool{}
	for _, e := range strings.Fields(`html head meta title style body header p h1 ul li b div i dl dt dd time code nav a main section h2 span
		article h3 pre details summary button output form input select option table thead tbody tr th td script br`) {
		known[e] = true
	}
	elements(doc, func(n *html.Node) {
		if !known[n.Data] {
			t.Errorf("an element that the page does not make: <%s>", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s> has a handler %s=%q", n.Data, a.Key, a.Val)
			}
			switch a.Key {
			case "src", "srcset", "action", "data", "poster", "background":
				t.Errorf("<%s %s=%q>: the page is to need nothing else", n.Data, a.Key, a.Val)
			case "id":
				if ids[a.Val] {
					t.Errorf("two elements have the id %q", a.Val)
				}
				ids[a.Val] = true
			case "href":
				links = append(links, a.Val)
			}
		}
		switch {
		case n.Data == "style" || n.Data == "script":
			if regexp.MustCompile(`https?://|//[a-z]|url\(|@import|import\(|fetch\(|XMLHttp`).MatchString(strings.ReplaceAll(text(n), "// ", "")) {
				t.Errorf("<%s> asks for something from elsewhere", n.Data)
			}
		case n.Data == "tr" && attr(n, "id") != "":
			var name, state string
			elements(n, func(c *html.Node) {
				switch attr(c, "class") {
				case "name":
					name = text(c)
				case "state":
					state = text(c)
				}
			})
			rows[name] = state
		case n.Data == "a" && strings.Contains(attr(n, "style"), "left:"):
			bars++
			if !regexp.MustCompile(`^left:[0-9.e-]+%;width:[0-9.e-]+%$`).MatchString(attr(n, "style")) {
				t.Errorf("a bar's style is %q", attr(n, "style"))
			}
		}
	})
	ran := 0
	for i := range r.Specs {
		s := &r.Specs[i]
		if rows[s.Name] != string(s.State) {
			t.Errorf("%q is %q in the table, not %q", s.Name, rows[s.Name], s.State)
		}
		if s.Ran() {
			ran++
		}
	}
	if len(rows) != len(r.Specs) || bars != ran {
		t.Errorf("%d rows and %d bars of %d specs, of which %d ran", len(rows), bars, len(r.Specs), ran)
	}
	for _, l := range links {
		switch target, inside := strings.CutPrefix(l, "#"); {
		case inside && !ids[target]:
			t.Errorf("the link %s leads nowhere", l)
		case !inside && (strings.Contains(strings.Split(l, "/")[0], ":") || strings.HasPrefix(l, "/")):
			t.Errorf("the link %s leads out of the directory", l)
		}
	}
}

func TestRealRuns(t *testing.T) {
	for run, want := range map[string][]string{
		"failed":       {"FAILED", "Told to stop trying after", "test/e2e/network/networking.go:98", "Only supported for node OS distro"},
		"flaked":       {"PASSED WITH FLAKES", "9 attempts", "no secrets for now"},
		"one-process":  {"FAILED", "Skipped"},
		"setup-failed": {"FAILED in [SynchronizedBeforeSuite]", "nodes is forbidden"},
		"interrupted":  {"INTERRUPTED: stopped by a signal (interrupt)", "Interrupted by User"},
		"killed":       {"KILLED before it ended", "Which process ran a spec is not known"},
	} {
		t.Run(run, func(t *testing.T) {
			r, err := results.Load(filepath.Join("../testdata", run))
			if err != nil {
				t.Fatal(err)
			}
			doc, _ := render(t, t.TempDir(), r)
			check(t, doc, r)
			all := text(doc)
			for _, w := range want {
				if !strings.Contains(all, w) {
					t.Errorf("the page does not say %q", w)
				}
			}
		})
	}
}

// evil is what a spec could be called, and write.
const evil = `</script></style></pre></textarea><script>alert(1)</script><img src=x onerror=alert(1)> " onmouseover="alert(1)' {{.}} \u003c &lt; javascript:alert(1)`

func TestEscapes(t *testing.T) {
	end := time.Now()
	start := end.Add(-time.Minute)
	spec := func(i int, s results.State) results.Spec {
		return results.Spec{
			Name: fmt.Sprintf("[sig-x] %d %s", i, evil), Labels: []string{evil}, State: s, Detail: evil, Reason: evil, Output: evil,
			Start: start, End: end, Process: 1, Attempts: 2,
			Failures: []results.Failure{{Message: evil, Location: evil, Node: evil, Stack: evil}},
		}
	}
	r := &results.Run{
		Info: results.Info{
			Server: evil, Version: evil, Start: start, End: &end, Cause: evil, Command: []string{evil}, Processes: 2,
			Selection: results.Selection{Focus: []string{evil}, LabelFilter: evil},
		},
		Setup: []results.Spec{spec(0, results.Failed)},
		Notes: []string{evil},
	}
	for i, s := range results.States {
		r.Specs = append(r.Specs, spec(i+1, s))
	}
	dir := t.TempDir()
	// Names of pods and files could be anything, too.
	for _, name := range []string{"logs/nodes/a#b?c%d/x:y.log", "artifacts/ns/\"onmouseover='alert(1).txt", "logs/javascript:alert(1)"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	doc, page := render(t, dir, r)
	check(t, doc, r)
	if n := strings.Count(page, "<script>"); n != 1 {
		t.Errorf("%d scripts", n)
	}
	if n := strings.Count(text(doc), evil); n < 40 {
		t.Errorf("what came from outside is %d times on the page as it was", n)
	}
}

func TestLogsOfPods(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"artifacts/services-1/pod/c/logs.txt", "artifacts/services-12/other/c/logs.txt"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v := newView(&results.Run{Specs: []results.Spec{
		{Name: "a", State: results.Failed, Output: "services-12/other runs\nSTEP: Collecting events from namespace \"services-1\"."},
		{Name: "b", State: results.Failed, Output: "services-1 and services-12"},
	}})
	v.find(dir)
	items := v.Trouble[0].Items
	if len(items[0].Logs) != 1 || items[0].Logs[0].URL != "artifacts/services-1/pod/c/logs.txt" || len(items[1].Logs) != 0 {
		t.Errorf("got %v and %v", items[0].Logs, items[1].Logs)
	}
}

// large is a run of many specs, on 25 processes, with some that wrote a lot.
func large(n int) *results.Run {
	rnd := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &results.Run{Info: results.Info{Server: "v1.37.2", Version: "v1.37.2", Start: start, Processes: 25, Total: n}}
	at := make([]time.Time, 25)
	for i := range at {
		at[i] = start
	}
	last := start
	for i := range n {
		s := results.Spec{
			Name:  fmt.Sprintf("[sig-%c] A group of specs should do what number %d says it does, and no more [Conformance]", 'a'+i%9, i),
			State: results.Passed, Attempts: 1, Process: 1 + i%25, Serial: i > n*9/10,
		}
		if s.Serial {
			s.Process = 1
			at[0] = last
		}
		s.Start = at[s.Process-1]
		s.End = s.Start.Add(time.Duration(rnd.ExpFloat64() * float64(20*time.Second)))
		at[s.Process-1] = s.End
		if s.End.After(last) {
			last = s.End
		}
		if i%10 == 3 {
			s.State = results.Failed
			s.Failures = []results.Failure{{Message: "it did not", Location: "a.go:1"}}
			s.Output = strings.Repeat("It wrote a line.\n", 20000)
		}
		r.Specs = append(r.Specs, s)
	}
	r.End = &last
	return r
}

func TestLarge(t *testing.T) {
	r := large(3200)
	doc, page := render(t, t.TempDir(), r)
	check(t, doc, r)
	if len(page) > 16<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	t.Logf("%d specs: %d bytes", len(r.Specs), len(page))
}

func TestClock(t *testing.T) {
	if got := clock(3*time.Hour + 4*time.Minute + 5*time.Second); got != "3:04:05" {
		t.Error(got)
	}
}

// What the scripts do shows only in a browser: a person's steps, and what they see.
func TestBrowser(t *testing.T) {
	_, page := render(t, t.TempDir(), large(500))
	got := browsertest.Eval(t, []byte(page), `
		document.querySelector('[data-zoom=in]').click();
		const f = document.querySelector('form');
		f.text.value = 'NUMBER 13';
		f.state.value = 'failed';
		f.dispatchEvent(new Event('input', {bubbles: true}));
		[...document.querySelectorAll('th button')].find(b => b.textContent === 'Time').click();
		const bar = document.querySelector('.lane a.failed');
		bar.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}));
		const frame = () => new Promise(requestAnimationFrame);
		await frame();
		await frame();
		const rows = [...document.querySelectorAll('tbody tr')].filter(r => !r.hidden);
		return [
			document.querySelector('#shown').textContent, rows.length,
			rows.every((r, i) => !i || +rows[i - 1].dataset.s >= +r.dataset.s),
			document.querySelector('.zoom output').textContent,
			document.querySelector('.time').style.width,
			!document.querySelector('#tip').hidden && document.querySelector('#tip').textContent.includes('failed'),
			document.querySelectorAll('.tick').length > 8,
			getComputedStyle(document.querySelector('section')).borderRadius,
		].join(';');`)
	// 13, 113, 133, 213, 313, 413 failed.
	if want := "6 of 500;6;true;2×;200%;true;true;8px"; got != want {
		t.Errorf("the page in the browser: got %q, want %q", got, want)
	}
}
