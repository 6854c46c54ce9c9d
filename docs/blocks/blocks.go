// Package blocks reads the code blocks of the documents and the marks that say how each is tested.
//
// A mark is an HTML comment before a block, which readers of the page do not see:
//
//	<!-- run -->              //docs:docs_test runs it, without Docker
//	<!-- run: new NAME -->    //e2e:docs runs it; it makes the cluster NAME itself
//	<!-- run: with NAME -->   //e2e:docs runs it; it needs the cluster NAME (or "docker": no cluster)
//	<!-- not run: REASON -->  no test does
//
// The name "k8s" is that of a container made by docker run, any other that of a cluster of the
// launcher.
package blocks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a mark says.
type Kind string

// The kinds.
const (
	Run    Kind = "run"
	New    Kind = "run: new"
	With   Kind = "run: with"
	NotRun Kind = "not run"
)

// Block is one code block: lines indented by four spaces or more after an empty line, or between
// two lines of backquotes.
type Block struct {
	Document string // path from the root of the repository
	Line     int    // of its first line, from 1
	Kind     Kind
	Argument string // of the mark: a name, or a reason
	Text     string // without the indentation, with a newline after each line
}

// String is where the block is, as FILE:LINE.
func (b Block) String() string { return fmt.Sprintf("%s:%d", b.Document, b.Line) }

// first are the documents in the order in which a new reader takes them. Clusters that one of them
// makes are there in the next.
var first = []string{
	"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
	"docs/quick-start.md", "docs/ci.md", "docs/conformance.md",
}

// Documents returns the paths of all documents below root, from there, in the order in which they
// are run.
func Documents(root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	all := slices.Clone(first)
	for _, file := range found {
		if name := "docs/" + filepath.Base(file); !slices.Contains(first, name) {
			all = append(all, name)
		}
	}
	return all, nil
}

// Read returns the blocks of all documents below root.
func Read(root string) ([]Block, error) {
	documents, err := Documents(root)
	if err != nil {
		return nil, err
	}
	var all []Block
	for _, name := range documents {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		blocks, err := Parse(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, blocks...)
	}
	return all, nil
}

var (
	markForm    = regexp.MustCompile(`^<!-- ((?:not )?run)(?:: (.+?))? -->$`)
	commentForm = regexp.MustCompile(`(?m)\s+# .*$`)
	targetForm  = regexp.MustCompile(`^(new|with) ([\w-]+)$`)
)

// Parse returns the blocks of one document. A block without a mark, a mark without a block, and a
// mark of another form are errors, which name document and line.
func Parse(document, text string) ([]Block, error) {
	lines := strings.Split(text, "\n")
	var all []Block
	mark, marked := "", 0 // the mark that waits for its block, and its line
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		start := i
		var code []string
		switch {
		case line == "":
			continue
		case strings.HasPrefix(line, "```"):
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "```"; i++ {
				code = append(code, lines[i])
			}
			if i == len(lines) {
				return nil, fmt.Errorf("%s:%d: the code block has no end", document, start+1)
			}
			start++
		case indented(lines[i]) && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			for ; i < len(lines) && (indented(lines[i]) || strings.TrimSpace(lines[i]) == ""); i++ {
				code = append(code, lines[i])
			}
			i--
		case mark != "":
			return nil, fmt.Errorf("%s:%d: no code block follows the mark %s", document, marked, mark)
		case markForm.MatchString(line):
			mark, marked = line, i+1
			continue
		default:
			continue
		}
		b := Block{Document: document, Line: start + 1, Text: outdent(code)}
		if err := b.set(mark); err != nil {
			return nil, fmt.Errorf("%s: %w", b, err)
		}
		all = append(all, b)
		mark = ""
	}
	if mark != "" {
		return nil, fmt.Errorf("%s:%d: no code block follows the mark %s", document, marked, mark)
	}
	return all, nil
}

// Commands returns the block's text without comments, to compare blocks by.
func (b Block) Commands() string { return commentForm.ReplaceAllString(b.Text, "") }

func indented(line string) bool {
	return strings.HasPrefix(line, "    ") && strings.TrimSpace(line) != ""
}

// outdent removes the indentation that all lines have, and empty lines at the end.
func outdent(code []string) string {
	least := -1
	for _, line := range code {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if n := len(line) - len(strings.TrimLeft(line, " ")); least < 0 || n < least {
			least = n
		}
	}
	var b strings.Builder
	for _, line := range code {
		b.WriteString(line[min(max(least, 0), len(line)):] + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// set reads the block's mark.
func (b *Block) set(mark string) error {
	if mark == "" {
		return errors.New("the code block has no mark: put <!-- run -->, <!-- run: new NAME -->, " +
			"<!-- run: with NAME --> or <!-- not run: REASON --> before it, as docs/blocks explains")
	}
	m := markForm.FindStringSubmatch(mark)
	b.Kind, b.Argument = Kind(m[1]), strings.TrimSpace(m[2])
	switch target := targetForm.FindStringSubmatch(m[2]); {
	case b.Kind == NotRun && b.Argument == "":
		return fmt.Errorf("%s: want a reason, as in <!-- not run: REASON -->", mark)
	case b.Kind == NotRun, b.Argument == "":
	case target == nil:
		return fmt.Errorf("%s: want \"new\" or \"with\", and the name of a cluster", mark)
	default:
		b.Kind, b.Argument = Run+": "+Kind(target[1]), target[2]
	}
	return nil
}
