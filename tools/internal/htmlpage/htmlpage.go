// Package htmlpage makes HTML pages of one file each, with style and scripts in it and nothing from
// elsewhere: they work from a directory, from an archive of a CI job, and without a network.
package htmlpage

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

//go:embed base.css
var base string

// Parse reads the template page.html. In it the function css gives the style that all pages have
// and then that of page.css, js the scripts of page.js. Parse is for package variables: it panics
// on a template that is wrong.
func Parse(files fs.FS, funcs template.FuncMap) *template.Template {
	return template.Must(template.New("page.html").Funcs(funcs).Funcs(template.FuncMap{
		"css": func() (template.CSS, error) {
			own, err := fs.ReadFile(files, "page.css")
			return template.CSS(base + string(own)), err
		},
		"js": func() (template.JS, error) {
			scripts, err := fs.ReadFile(files, "page.js")
			return template.JS(scripts), err
		},
	}).ParseFS(files, "page.html"))
}

// Write makes a page of a view. The file is complete as soon as it is there.
func Write(path string, page *template.Template, view any) error {
	var out bytes.Buffer
	err := page.Execute(&out, view)
	if err == nil {
		err = renameio.WriteFile(path, out.Bytes(), 0o644, renameio.WithTempDir(filepath.Dir(path)))
	}
	if err != nil {
		return fmt.Errorf("making the page: %w", err)
	}
	return nil
}

// Rows puts spans into as few rows of a chart as possible, so that none covers another. The zero
// value has no row.
type Rows struct {
	// Slack is how far two spans in a row may overlap.
	Slack time.Duration
	ends  []time.Time
}

// Place returns the row of a span, from 0. Spans come in the order in which they begin.
func (r *Rows) Place(start, end time.Time) int {
	for i, before := range r.ends {
		if !before.After(start.Add(r.Slack)) {
			r.ends[i] = end
			return i
		}
	}
	r.ends = append(r.ends, end)
	return len(r.ends) - 1
}

// TickStep returns a round time of which at most so many fit into a whole, half a second or more.
func TickStep(whole time.Duration, most int) time.Duration {
	for _, s := range []float64{0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800} {
		if step := time.Duration(s * float64(time.Second)); whole <= time.Duration(most)*step {
			return step
		}
	}
	return time.Duration(math.Ceil(whole.Hours()/float64(most))) * time.Hour
}
