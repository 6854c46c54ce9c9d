package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// Labels that e2e.test gives its specs.
const (
	labelConformance = "Conformance"
	labelSerial      = "Serial"
)

// description is what e2e.test calls its suite. Ginkgo puts it in front of each name that it
// compares with a regular expression.
const description = "Kubernetes e2e suite"

// Default completes a selection that names nothing: the conformance specs.
func Default(sel results.Selection) results.Selection {
	if len(sel.Focus) == 0 && len(sel.Specs) == 0 && sel.LabelFilter == "" {
		sel.LabelFilter = labelConformance
	}
	return sel
}

// CheckSelection finds what e2e.test would stumble over: broken regular expressions and label
// filters.
func CheckSelection(sel results.Selection) error {
	for _, list := range []struct {
		flag   string
		values []string
	}{{"--focus", sel.Focus}, {"--skip", sel.Skip}} {
		for _, v := range list.values {
			if v == "" {
				return fmt.Errorf("%s is empty: it would match every spec", list.flag)
			}
			if _, err := regexp.Compile(v); err != nil {
				return fmt.Errorf("%s %q is no regular expression: %w", list.flag, v, err)
			}
		}
	}
	if _, err := types.ParseLabelFilter(sel.LabelFilter); err != nil {
		return fmt.Errorf("--label-filter %q: %s", sel.LabelFilter, explain(err))
	}
	for _, name := range sel.Specs {
		if strings.TrimSpace(name) == "" {
			return errors.New("--spec is empty: give the full name of a spec, as --dry-run lists it")
		}
	}
	return nil
}

// explain takes the colours and the margins out of one of Ginkgo's errors.
func explain(err error) string {
	var ginkgo types.GinkgoError
	if !errors.As(err, &ginkgo) {
		return err.Error()
	}
	text := regexp.MustCompile(`\{\{[^}]*\}\}`).ReplaceAllString(ginkgo.Message, "")
	return strings.Join(strings.Fields(strings.TrimPrefix(text, "Syntax Error Parsing Label Filter")), " ")
}

// selectionArgs are the flags that select the specs: with the prefix "ginkgo." for e2e.test itself,
// without it for ginkgo.
func selectionArgs(sel results.Selection, prefix string) []string {
	var args []string
	for _, v := range sel.Focus {
		args = append(args, "--"+prefix+"focus="+v)
	}
	for _, v := range sel.Specs {
		args = append(args, "--"+prefix+"focus="+exactly(v))
	}
	for _, v := range sel.Skip {
		args = append(args, "--"+prefix+"skip="+v)
	}
	if sel.LabelFilter != "" {
		args = append(args, "--"+prefix+"label-filter="+sel.LabelFilter)
	}
	return args
}

// exactly is the regular expression that matches a spec's full name only.
func exactly(name string) string { return "^" + regexp.QuoteMeta(description+" "+name) + "$" }

// Plan is what a selection comes to.
type Plan struct {
	// Specs are going to run, sorted by name.
	Specs []results.Planned
	// Total is the number of specs in e2e.test.
	Total int
	// Conformance reports whether Specs are exactly the conformance specs.
	Conformance bool
}

// Run is the number of specs that are not left out.
func (p *Plan) Run() int { return len(p.Specs) - len(p.LeftOut()) }

// LeftOut are the full names of the specs that are left out.
func (p *Plan) LeftOut() (names []string) {
	for _, s := range p.Specs {
		if s.LeftOut != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// Parallel is the number of specs that may run side by side, without those left out.
func (p *Plan) Parallel() int {
	n := 0
	for _, s := range p.Specs {
		if !s.Serial && s.LeftOut == "" {
			n++
		}
	}
	return n
}

// Plan asks e2e.test which specs a selection runs. It is an error if that is none, or not what
// --spec names.
func (s *Suite) Plan(ctx context.Context, sel results.Selection) (*Plan, error) {
	dir, err := os.MkdirTemp("", "e2e-plan-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "plan.json")
	args := append([]string{"--ginkgo.dry-run", "--ginkgo.no-color", "--ginkgo.json-report=" + file}, selectionArgs(sel, "ginkgo.")...)
	// Seconds, even on a small machine.
	if _, err := output(ctx, 2*time.Minute, s.E2ETest, args...); err != nil {
		return nil, fmt.Errorf("asking e2e.test for its specs: %w", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("asking e2e.test for its specs: %w", err)
	}
	return parsePlan(data, sel)
}

func parsePlan(data []byte, sel results.Selection) (*Plan, error) {
	var reports []types.Report
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, fmt.Errorf("reading e2e.test's list of specs: %w", err)
	}
	var plan Plan
	all := map[string]bool{}
	conformance, conformanceSelected := 0, 0
	for _, report := range reports {
		for i := range report.SpecReports {
			spec := &report.SpecReports[i]
			if spec.LeafNodeType != types.NodeTypeIt {
				continue
			}
			name, labels := spec.FullText(), spec.Labels()
			selected := spec.State.Is(types.SpecStatePassed)
			all[name] = selected
			plan.Total++
			if slices.Contains(labels, labelConformance) {
				conformance++
				if selected {
					conformanceSelected++
				}
			}
			if selected {
				plan.Specs = append(plan.Specs, results.Planned{
					Name: name, Labels: labels, Serial: slices.Contains(labels, labelSerial),
				})
			}
		}
	}
	if plan.Total == 0 {
		return nil, errors.New("e2e.test's list of specs is empty")
	}
	for _, name := range sel.Specs {
		selected, exists := all[name]
		switch {
		case !exists:
			return nil, fmt.Errorf("--spec %q: e2e.test has no spec of this full name%s", name, similar(name, all))
		case !selected:
			return nil, fmt.Errorf("--spec %q: --skip or --label-filter excludes it", name)
		}
	}
	if len(plan.Specs) == 0 {
		return nil, errors.New(nothing(sel, all))
	}
	slices.SortFunc(plan.Specs, func(a, b results.Planned) int { return strings.Compare(a.Name, b.Name) })
	plan.Conformance = conformanceSelected == conformance && len(plan.Specs) == conformance
	return &plan, nil
}

// similar names specs that contain a name that does not exist.
func similar(name string, all map[string]bool) string {
	var found []string
	for n := range all {
		if strings.Contains(strings.ToLower(n), strings.ToLower(strings.TrimSpace(name))) {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return "; --dry-run --focus=REGEXP lists names"
	}
	slices.Sort(found)
	more := ""
	if len(found) > 5 {
		found, more = found[:5], fmt.Sprintf("\n  … and %d more", len(found)-5)
	}
	return "; there are:\n  " + strings.Join(found, "\n  ") + more
}

// nothing explains why a selection is empty.
func nothing(sel results.Selection, all map[string]bool) string {
	text := "no spec is selected by " + sel.String()
	if len(sel.Focus) == 0 {
		return text + "; --dry-run lists what other values select"
	}
	var focus []*regexp.Regexp
	for _, f := range sel.Focus {
		focus = append(focus, regexp.MustCompile(f))
	}
	matching := 0
	for name := range all {
		if slices.ContainsFunc(focus, func(re *regexp.Regexp) bool { return re.MatchString(description + " " + name) }) {
			matching++
		}
	}
	switch {
	case matching == 0:
		return fmt.Sprintf("%s; --focus alone matches none of %d specs", text, len(all))
	case sel.LabelFilter == "" && len(sel.Skip) == 0:
		return fmt.Sprintf("%s; --focus matches %d specs, but e2e.test never runs them (they are pending)", text, matching)
	}
	return fmt.Sprintf("%s; --focus alone matches %d specs, but --skip or --label-filter excludes them all", text, matching)
}
