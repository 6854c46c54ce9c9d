package declare_test

import (
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/declare"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"/usr/share/doc/*", "/usr/share/doc/a/b", true},
		{"/usr/share/doc/*", "/usr/share/doc", false},
		{"/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true},
		{"/usr/share/doc/*/copyright", "/usr/share/doc/a/b/copyright", true},
		{"/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright2", false},
		{"/a?c", "/abc", true},
		{"/a?c", "/ac", false},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"*a*b*", "xxaxxbxx", true},
		{strings.Repeat("*a", 50), strings.Repeat("a", 10_000) + "b", false},
	} {
		if got := declare.Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("packages: {a: {scripts: {postinst: x}, files: [{path: /a, content: b}]}}")
	f.Add("exclude: [/a/*]\ntriggers: {ldconfig: no}\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := declare.Parse([]byte(text))
		if err == nil && d == nil {
			t.Error("neither a declaration nor an error")
		}
	})
}
