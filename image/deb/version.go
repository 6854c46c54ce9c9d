package deb

import (
	"cmp"
	"strings"
)

// CompareVersions orders two package versions as Debian's policy says (5.6.12): below,
// at or above zero.
func CompareVersions(a, b string) int {
	epochA, restA := splitEpoch(a)
	epochB, restB := splitEpoch(b)
	if c := compareDigits(epochA, epochB); c != 0 {
		return c
	}
	upstreamA, revisionA := splitRevision(restA)
	upstreamB, revisionB := splitRevision(restB)
	if c := comparePart(upstreamA, upstreamB); c != 0 {
		return c
	}
	return comparePart(revisionA, revisionB)
}

func splitEpoch(v string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(v, ":"); ok {
		return epoch, rest
	}
	return "0", v
}

func splitRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// comparePart compares stretches of other characters and of digits in turn.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		endA, endB := nonDigits(a), nonDigits(b)
		if c := compareText(a[:endA], b[:endB]); c != 0 {
			return c
		}
		a, b = a[endA:], b[endB:]
		endA, endB = digits(a), digits(b)
		if c := compareDigits(a[:endA], b[:endB]); c != 0 {
			return c
		}
		a, b = a[endA:], b[endB:]
	}
	return 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func nonDigits(s string) int {
	n := 0
	for n < len(s) && !isDigit(s[n]) {
		n++
	}
	return n
}

func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// compareText puts a tilde before everything, even the end, and letters before the rest.
func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case 'a' <= s[i] && s[i] <= 'z' || 'A' <= s[i] && s[i] <= 'Z':
		return int(s[i])
	}
	return int(s[i]) + 256
}

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
