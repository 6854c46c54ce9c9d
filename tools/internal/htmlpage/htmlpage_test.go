package htmlpage

import (
	"html/template"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestWrite(t *testing.T) {
	page := Parse(fstest.MapFS{
		"page.html": {Data: []byte("<style>{{css}}</style><p>{{shout .}}</p><script>{{js}}</script>")},
		"page.css":  {Data: []byte("p { color: red }")},
		"page.js":   {Data: []byte("go(1 < 2)")},
	}, template.FuncMap{"shout": strings.ToUpper})
	path := filepath.Join(t.TempDir(), "page.html")
	if err := Write(path, page, "<a>"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if want := "p { color: red }</style><p>&lt;A&gt;</p><script>go(1 < 2)</script>"; err != nil || string(data) != "<style>"+base+want {
		t.Errorf("got %s, %v", data, err)
	}
	if err := Write(filepath.Join(path, "below"), page, ""); err == nil {
		t.Error("a page below a file was written")
	}
	if err := Write(path, page, 1); err == nil || !strings.HasPrefix(err.Error(), "making the page: ") {
		t.Errorf("got %v", err)
	}
}

func TestRows(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(0, int64(s*1e9)) }
	for slack, want := range map[time.Duration]string{0: "0 1 0 0", time.Second: "0 0 1 0"} {
		rows := Rows{Slack: slack}
		got := ""
		for _, span := range [][2]float64{{0, 2}, {1, 4}, {2, 3}, {4, 5}} {
			got += " " + string(rune('0'+rows.Place(at(span[0]), at(span[1]))))
		}
		if got[1:] != want {
			t.Errorf("slack %s: rows%s, want %s", slack, got, want)
		}
	}
}

func TestTickStep(t *testing.T) {
	for whole, want := range map[float64]time.Duration{8: 500 * time.Millisecond, 15: time.Second, 61: 5 * time.Second, 4000: 300 * time.Second} {
		if got := TickStep(time.Duration(whole*float64(time.Second)), 20); got != want {
			t.Errorf("%v s: got %v, want %v", whole, got, want)
		}
	}
	for whole := time.Second; whole < 100*time.Hour; whole = whole * 5 / 4 {
		if n := whole / TickStep(whole, 8); n > 8 {
			t.Errorf("%s: %d ticks", whole, n)
		}
	}
}
