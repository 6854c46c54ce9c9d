package declare_test

import (
	"regexp"
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

// FuzzMatch holds Match against the regular expression that a pattern stands for, byte by byte.
func FuzzMatch(f *testing.F) {
	f.Add("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright")
	f.Add("*a?b*", "xxaxb")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		form := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(latin1(pattern)))
		want := regexp.MustCompile(`(?s)\A` + form + `\z`).MatchString(latin1(name))
		if got := declare.Match(pattern, name); got != want {
			t.Errorf("Match(%q, %q) = %v", pattern, name, got)
		}
	})
}

// latin1 has a character for each byte.
func latin1(s string) string {
	var runes []rune
	for _, b := range []byte(s) {
		runes = append(runes, rune(b))
	}
	return string(runes)
}
