// Package nearest finds the name that was meant by one with a typing error in it.
package nearest

import "strings"

// Of returns the one of names that name is most likely a typing error of, or "". Upper and lower case, hyphens and underscores
// do not count, and one letter in four may be wrong.
func Of(name string, names []string) string {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	name = plain(name)
	best, least := "", 0
	for _, candidate := range names {
		allowed := max(1, len(candidate)/4)
		if len(name) > len(candidate)+allowed {
			continue // a name may be as long as a file
		}
		d := Distance(name, plain(candidate))
		if d <= allowed && (best == "" || d < least) {
			best, least = candidate, d
		}
	}
	return best
}

// Distance counts the letters that have to be added, removed, replaced or swapped with the next to make b of a (optimal string
// alignment).
func Distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
