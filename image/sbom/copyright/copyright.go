// Package copyright reads Debian's machine-readable copyright files and translates the licences
// that they declare to SPDX. The format is described at
// https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/.
package copyright

import (
	"regexp"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// Licences are what a copyright file declares.
type Licences struct {
	// Names are the licences by Debian's short names, as the file has them, each once and sorted.
	Names []string
	// Expression is an SPDX licence expression for all of Names together; empty if one of them is
	// not on SPDX's list.
	Expression string
}

// Parse reads a copyright file. It returns nil for one that is not machine-readable.
func Parse(text []byte) *Licences {
	paragraphs, err := deb.ParseControls(string(text))
	if err != nil || len(paragraphs) == 0 || !format.MatchString(paragraphs[0].Get("Format")) {
		return nil
	}
	l := &Licences{}
	for n, p := range paragraphs {
		// The header's licence is that of the whole, a paragraph without files only has a licence's
		// text.
		if n > 0 && p.Get("Files") == "" {
			continue
		}
		name, _, _ := strings.Cut(p.Get("License"), "\n")
		if name = strings.Join(strings.Fields(name), " "); name != "" && !slices.Contains(l.Names, name) {
			l.Names = append(l.Names, name)
		}
	}
	slices.Sort(l.Names)
	l.Expression = expression(l.Names)
	return l
}

var format = regexp.MustCompile(`^https?://(www\.)?(debian\.org/doc/packaging-manuals/copyright-format/1\.0|dep\.debian\.net/deps/dep5)/?$`)

// expression joins licences that all apply; it is empty if SPDX has no name for one.
func expression(names []string) string {
	var parts []string
	for _, name := range names {
		part := translate(name)
		if part == "" {
			return ""
		}
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	if len(parts) > 1 {
		for i, part := range parts {
			if strings.Contains(part, " OR ") {
				parts[i] = "(" + part + ")"
			}
		}
	}
	return strings.Join(parts, " AND ")
}

// exceptions are whole fields with an exception that SPDX lists.
var exceptions = map[string]string{
	"GPL-2 with Linux-syscall-note exception": "GPL-2.0-only WITH Linux-syscall-note",
	"GPL-2+ with Autoconf exception":          "GPL-2.0-or-later WITH Autoconf-exception-2.0",
	"GPL-2+ with Bison exception":             "GPL-2.0-or-later WITH Bison-exception-2.2",
	"GPL-2+ with Libtool exception":           "GPL-2.0-or-later WITH Libtool-exception",
	"GPL-3+ with Autoconf exception":          "GPL-3.0-or-later WITH Autoconf-exception-3.0",
	"GPL-3+ with Bison exception":             "GPL-3.0-or-later WITH Bison-exception-2.2",
}

// translate makes an SPDX expression of one License field: a short name, or several with "or" and
// "and", of which "and" binds more tightly in both notations. A comma, which changes that, is not
// translated.
func translate(field string) string {
	if e := exceptions[field]; e != "" {
		return e
	}
	words := strings.Fields(field)
	for i, word := range words {
		switch {
		case i%2 == 0:
			words[i] = identifier(word)
		case word == "or" || word == "and":
			words[i] = strings.ToUpper(word)
		default:
			return ""
		}
		if words[i] == "" {
			return ""
		}
	}
	if len(words)%2 == 0 {
		return ""
	}
	return strings.Join(words, " ")
}

// gnu are the GNU licences: name, version, whether a later version may be chosen.
var gnu = regexp.MustCompile(`^(GPL|LGPL|AGPL|GFDL)-([0-9])(?:\.([0-9]))?(\+?)$`)

// gnuVersions are those that SPDX lists.
var gnuVersions = []string{
	"GPL-1.0", "GPL-2.0", "GPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0", "AGPL-1.0", "AGPL-3.0", "GFDL-1.1", "GFDL-1.2", "GFDL-1.3",
}

// equal are Debian's short names, in lower case, that mean exactly one licence of SPDX's list.
var equal = map[string]string{
	"apache-1.1":        "Apache-1.1",
	"apache-2.0":        "Apache-2.0",
	"artistic-2.0":      "Artistic-2.0",
	"bsd-2-clause":      "BSD-2-Clause",
	"bsd-3-clause":      "BSD-3-Clause",
	"bsd-4-clause":      "BSD-4-Clause",
	"bsl-1.0":           "BSL-1.0",
	"cc-by-3.0":         "CC-BY-3.0",
	"cc-by-4.0":         "CC-BY-4.0",
	"cc-by-sa-3.0":      "CC-BY-SA-3.0",
	"cc-by-sa-4.0":      "CC-BY-SA-4.0",
	"cc0":               "CC0-1.0",
	"cc0-1.0":           "CC0-1.0",
	"cddl-1.0":          "CDDL-1.0",
	"curl":              "curl",
	"beerware":          "Beerware",
	"expat":             "MIT",
	"fsfap":             "FSFAP",
	"fsful":             "FSFUL",
	"fsfullr":           "FSFULLR",
	"gfdl-niv-1.2":      "GFDL-1.2-no-invariants-only",
	"gfdl-niv-1.2+":     "GFDL-1.2-no-invariants-or-later",
	"gfdl-niv-1.3":      "GFDL-1.3-no-invariants-only",
	"gfdl-niv-1.3+":     "GFDL-1.3-no-invariants-or-later",
	"isc":               "ISC",
	"mit-0":             "MIT-0",
	"mpl-1.1":           "MPL-1.1",
	"mpl-2.0":           "MPL-2.0",
	"ofl-1.1":           "OFL-1.1",
	"openssl":           "OpenSSL",
	"psf-2":             "PSF-2.0",
	"unicode-dfs-2016":  "Unicode-DFS-2016",
	"unlicense":         "Unlicense",
	"zlib":              "Zlib",
	"0bsd":              "0BSD",
	"bsd-1-clause":      "BSD-1-Clause",
	"libpng":            "Libpng",
	"hpnd":              "HPND",
	"bsd-3-clause-lbnl": "BSD-3-Clause-LBNL",
}

// identifier returns the SPDX identifier of a licence that Debian calls by a short name, or "".
func identifier(name string) string {
	if m := gnu.FindStringSubmatch(name); m != nil {
		minor := m[3]
		if minor == "" {
			minor = "0"
		}
		id := m[1] + "-" + m[2] + "." + minor
		if !slices.Contains(gnuVersions, id) {
			return ""
		}
		if m[4] == "+" {
			return id + "-or-later"
		}
		return id + "-only"
	}
	return equal[strings.ToLower(name)]
}
