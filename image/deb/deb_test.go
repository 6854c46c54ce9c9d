package deb_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/image/deb/debtest"
)

func sample(compression string) debtest.Package {
	return debtest.Package{
		Name: "sample", Version: "1:2.3-4", Compression: compression,
		Control: "Depends: libc6 (>= 2.38),\n other\n",
		Members: map[string]string{"postinst": "#!/bin/sh\nexit 0\n", "conffiles": "/etc/sample\n"},
		Files: []debtest.File{
			{Path: "./"},
			{Path: "./etc/"},
			{Path: "./etc/sample", Content: "a = b\n"},
			{Path: "./usr/bin/sample", Content: "program", Mode: 0o4755},
		},
	}
}

// read reads a package to its end and lists what it contains.
func read(r io.Reader) (*deb.Package, []string, error) {
	p, err := deb.Read(r)
	if err != nil {
		return nil, nil, err
	}
	var files []string
	err = p.Data(func(hdr *tar.Header, content io.Reader) error {
		text, err := io.ReadAll(content)
		files = append(files, fmt.Sprintf("%s %o %q", hdr.Name, hdr.Mode, text))
		return err
	})
	return p, files, err
}

func TestRead(t *testing.T) {
	for _, compression := range []string{"gz", "zst", "none"} {
		t.Run(compression, func(t *testing.T) {
			p, files, err := read(bytes.NewReader(sample(compression).Bytes(t)))
			if err != nil {
				t.Fatal(err)
			}
			if p.Name() != "sample" || p.Control.Get("version") != "1:2.3-4" || p.Control.Get("Depends") != "libc6 (>= 2.38),\n other" {
				t.Errorf("control = %q", p.Control.String())
			}
			if string(p.Members["postinst"]) != "#!/bin/sh\nexit 0\n" || p.Members["control"] != nil {
				t.Errorf("members = %q", p.Members)
			}
			want := `./ 755 "" | ./etc/ 755 "" | ./etc/sample 644 "a = b\n" | ./usr/bin/sample 4755 "program"`
			if got := strings.Join(files, " | "); got != want {
				t.Errorf("files = %s\nwant %s", got, want)
			}
		})
	}
}

// TestReadXZ reads what dpkg-deb itself wrote.
func TestReadXZ(t *testing.T) {
	f, err := os.Open("testdata/tiny-xz.deb")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, files, err := read(f)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "tiny" || !strings.Contains(strings.Join(files, "\n"), `./usr/share/tiny/hello 644 "hello\n"`) {
		t.Errorf("package %s has %q", p.Name(), files)
	}
}

func TestTruncated(t *testing.T) {
	xz, err := os.ReadFile("testdata/tiny-xz.deb")
	if err != nil {
		t.Fatal(err)
	}
	for name, whole := range map[string][]byte{"gz": sample("gz").Bytes(t), "zst": sample("zst").Bytes(t), "xz": xz} {
		end := len(whole)
		if len(whole)%2 == 0 && whole[end-1] == '\n' {
			end-- // the last member's padding may be missing
		}
		for n := range end {
			if _, _, err := read(bytes.NewReader(whole[:n])); err == nil {
				t.Errorf("%s: the first %d of %d bytes are read without an error", name, n, len(whole))
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	good := string(sample("gz").Bytes(t))
	for name, c := range map[string]struct{ bytes, want string }{
		"no archive":     {"hello, world", "not a Debian package"},
		"no package":     {strings.Replace(good, "debian-binary   ", "something-else  ", 1), "not debian-binary"},
		"other format":   {strings.Replace(good, "2.0\n", "3.0\n", 1), "not 2.x"},
		"bad header":     {strings.Replace(good, "`\n", "'\n", 1), "damaged"},
		"bad size":       {strings.Replace(good, "4         `", "x         `", 1), "no valid size"},
		"unknown member": {strings.Replace(good, "control.tar.gz  ", "uncontrol.tar.gz", 1), "unknown archive member"},
		"compression":    {strings.Replace(good, "control.tar.gz  ", "control.tar.lzo ", 1), "unknown compression"},
		"no control":     {strings.Replace(good, "control.tar.gz  ", "_gone           ", 1), "before the control archive"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(strings.NewReader(c.bytes))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestBadControl(t *testing.T) {
	for name, c := range map[string]struct {
		p    debtest.Package
		want string
	}{
		"climbing name":   {debtest.Package{Name: "../evil"}, "impossible package"},
		"two paragraphs":  {debtest.Package{Name: "a", Control: "\nPackage: b\n"}, "2 paragraphs"},
		"no field":        {debtest.Package{Name: "a", Control: "nonsense\n"}, "no field"},
		"climbing member": {debtest.Package{Name: "a", Members: map[string]string{"x/../../y": ""}}, "not a plain file name"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(bytes.NewReader(c.p.Bytes(t)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestControlRoundTrip(t *testing.T) {
	text := "Package: a\nConffiles:\n /etc/a 0123\n /etc/b 4567\nDescription: short\n long\n .\n text\n"
	all, err := deb.ParseControls(text + "\n\n" + text)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].String() != text || all[1].String() != text {
		t.Errorf("got %q", all)
	}
	if _, err := deb.ParseControls(" continued\n"); err == nil {
		t.Error("a continuation of nothing is taken")
	}
}

func FuzzRead(f *testing.F) {
	for _, compression := range []string{"gz", "zst", "none"} {
		f.Add(sample(compression).Bytes(f))
	}
	if xz, err := os.ReadFile("testdata/tiny-xz.deb"); err == nil {
		f.Add(xz)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := deb.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		if p.Name() == "" || strings.Contains(p.Name(), "/") {
			t.Errorf("package name %q", p.Name())
		}
		for name := range p.Members {
			if strings.Contains(name, "/") {
				t.Errorf("control member %q", name)
			}
		}
		// A bound, since a few bytes can unpack to any number.
		enough := errors.New("enough")
		total := int64(0)
		_ = p.Data(func(_ *tar.Header, content io.Reader) error {
			n, err := io.Copy(io.Discard, io.LimitReader(content, 1<<20))
			if total += n; total > 1<<22 {
				return enough
			}
			return err
		})
	})
}
