package blocks

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const text = `# Head
Text, and
    this is its continuation.

<!-- run: new k8s -->

    docker run \
      image

    docker ps

1. A list:

   <!-- not run: hours -->

       long

<!-- run -->
` + "```sh\necho a\n\n  echo b\n```" + `

<!-- a comment -->

<!-- run: with dind-cluster -->

    last
`
	got, err := Parse("a.md", text)
	want := []Block{
		{"a.md", 7, New, "k8s", "docker run \\\n  image\n\ndocker ps\n"},
		{"a.md", 16, NotRun, "hours", "long\n"},
		{"a.md", 20, Run, "", "echo a\n\n  echo b\n"},
		{"a.md", 29, With, "dind-cluster", "last\n"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"Text:\n\n    code\n":                                           "a.md:3: the code block has no mark",
		"Text:\n\n```\ncode\n```\n":                                     "a.md:4: the code block has no mark",
		"<!-- run -->\n\n    code\n\ntext\n\n    more\n":                "a.md:7: the code block has no mark",
		"<!-- run -->\n\nText\n\n    code\n":                            "a.md:1: no code block follows",
		"text\n<!-- not run: why -->\n":                                 "a.md:2: no code block follows",
		"<!-- run -->\n<!-- run: with k8s -->\n\n    code\n":            "a.md:1: no code block follows",
		"<!-- not run -->\n\n    code\n":                                "want a reason",
		"<!-- run: k8s -->\n\n    code\n":                               `want "new" or "with"`,
		"<!-- run -->\n```\ncode\n":                                     "a.md:2: the code block has no end",
		"<!-- Run -->\n\n    a mark that is misspelt is a comment only": "has no mark",
	} {
		if got, err := Parse("a.md", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want %q", text, got, err, want)
		}
	}
}

// FuzzParse holds that each line of a block is a line of the document, and that every indented
// block of a document without backquotes comes back.
func FuzzParse(f *testing.F) {
	f.Add("<!-- run -->\n\n    a\n")
	f.Add("1. x\n\n   <!-- not run: y -->\n\n       a\n         b\n")
	f.Fuzz(func(t *testing.T, text string) {
		blocks, err := Parse("a.md", text)
		if err != nil {
			return
		}
		lines := strings.Split(text, "\n")
		for _, b := range blocks {
			for i, line := range strings.Split(strings.TrimSuffix(b.Text, "\n"), "\n") {
				if at := b.Line - 1 + i; at >= len(lines) || !strings.HasSuffix(lines[at], line) {
					t.Errorf("%q: %+v: line %d is not in the document", text, b, i)
				}
			}
			if b.Kind == NotRun && strings.TrimSpace(b.Argument) == "" {
				t.Errorf("%q: no reason: %+v", text, b)
			}
		}
	})
}
