package copyright

import (
	"slices"
	"strings"
	"testing"
)

const header = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n"

func TestParse(t *testing.T) {
	l := Parse([]byte(header + `License: Expat

Files: *
Copyright: 2001 Someone
License: GPL-2+
 The text,
 .
 in several lines.

Files: debian/*
Copyright: Someone else
License: GPL-2+

Files: doc/*
License: BSD-3-clause or
 Apache-2.0

License: LGPL-2.1
 Only a text that others refer to.
`))
	if l == nil || !slices.Equal(l.Names, []string{"BSD-3-clause or", "Expat", "GPL-2+"}) || l.Expression != "" {
		t.Errorf("%+v", l)
	}
	for name, text := range map[string]string{
		"prose":            "This package was debianised by someone.\n\nIts licence: see above.\n",
		"another format":   "Format: https://example.org/\n\nFiles: *\nLicense: Expat\n",
		"nothing":          "",
		"not a control":    " a continuation of nothing",
		"format elsewhere": "Files: *\nLicense: Expat\n\n" + header,
	} {
		if l := Parse([]byte(text)); l != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestExpression(t *testing.T) {
	for names, want := range map[string]string{
		"Expat":                                  "MIT",
		"GPL-2":                                  "GPL-2.0-only",
		"GPL-2+":                                 "GPL-2.0-or-later",
		"GPL-2.0+":                               "GPL-2.0-or-later",
		"LGPL-2.1":                               "LGPL-2.1-only",
		"GFDL-NIV-1.3+":                          "GFDL-1.3-no-invariants-or-later",
		"BSD-3-clause":                           "BSD-3-Clause",
		"GPL-2+ or Artistic-2.0":                 "GPL-2.0-or-later OR Artistic-2.0",
		"GPL-2+ or Artistic-2.0|ISC":             "(GPL-2.0-or-later OR Artistic-2.0) AND ISC",
		"Apache-2.0|GPL-2 and Zlib":              "Apache-2.0 AND GPL-2.0-only AND Zlib",
		"Expat|expat":                            "MIT",
		"GPL-3+ with Bison exception":            "GPL-3.0-or-later WITH Bison-exception-2.2",
		"":                                       "",
		"GPL-4":                                  "",
		"GPL":                                    "",
		"public-domain":                          "",
		"Expat|public-domain":                    "",
		"GPL-2+ or Artistic-2.0, and ISC":        "",
		"GPL-2+ with an unheard of exception":    "",
		"GPL-2+ or":                              "",
		"Expat ISC":                              "",
		"Expat and/or ISC":                       "",
		"GPL-2+ with OpenSSL exception or Expat": "",
	} {
		if got := expression(strings.Split(names, "|")); got != want {
			t.Errorf("%s: %q, want %q", names, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(header + "\nFiles: *\nLicense: GPL-2+ or Expat\n text\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := Parse(text)
		if l != nil && l.Expression != "" && len(l.Names) == 0 {
			t.Errorf("%+v", l)
		}
	})
}
