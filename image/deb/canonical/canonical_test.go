package canonical

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

var date = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// pythonDeb writes a package the way pkg_deb does, at a chosen compression level and in a chosen
// order.
func pythonDeb(t *testing.T, level int, files [][2]string) string {
	t.Helper()
	archive := func(files [][2]string) []byte {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		tw := tar.NewWriter(z)
		for _, f := range files {
			hdr := &tar.Header{Name: "./" + f[0], Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f[1])), ModTime: time.Unix(int64(level), 0)}
			if strings.HasSuffix(f[0], "/") {
				hdr.Typeflag, hdr.Mode = tar.TypeDir, 0o755
			}
			if err := tw.WriteHeader(hdr); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(tw, f[1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	data, err := os.Create(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if _, err := data.Write(archive(files)); err != nil {
		t.Fatal(err)
	}
	control := archive([][2]string{
		{"control", "Package: p\nVersion: 1-1\nArchitecture: amd64\nMaintainer: M <m@example.org>\nDescription: d\n more\nDistribution: unstable\nUrgency: medium\n"},
		{"conffiles", "/etc/p\n"},
		{"postinst", "#!/bin/sh\n"},
	})
	name := filepath.Join(t.TempDir(), "p.deb")
	if err := writeAr(name, date, control, data); err != nil {
		t.Fatal(err)
	}
	return name
}

func finish(t *testing.T, in string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.deb")
	if err := Rewrite(in, out, "@PACKAGE@ (@VERSION@) unstable\n", date); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEqualContentIsEqualBytes(t *testing.T) {
	files := [][2]string{{"usr/", ""}, {"usr/bin/", ""}, {"usr/bin/p", strings.Repeat("program", 5000)}, {"etc/p", "x"}, {"var/lib/p/", ""}}
	reversed := [][2]string{files[4], files[3], files[2]}
	a, err := os.ReadFile(finish(t, pythonDeb(t, 9, files)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(finish(t, pythonDeb(t, 1, reversed)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two packages of the same content differ")
	}
}

func TestContents(t *testing.T) {
	f, err := os.Open(finish(t, pythonDeb(t, 6, [][2]string{{"usr/bin/p", "program"}, {"etc/p", "x"}})))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := deb.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Control.Get("Installed-Size"); got != "9" { // 6 directories, 3 files
		t.Errorf("Installed-Size is %q", got)
	}
	if got := d.Control.Get("Urgency"); got != "" {
		t.Errorf("a field that dpkg does not know is left: Urgency: %s", got)
	}
	sums := string(d.Members["md5sums"])
	if !strings.Contains(sums, "a9c449d4fa44e9e5a41c574ae55ce4d9  usr/bin/p\n") || strings.Contains(sums, "etc/p") {
		t.Errorf("md5sums:\n%s", sums)
	}
	var paths []string
	err = d.Data(func(hdr *tar.Header, content io.Reader) error {
		paths = append(paths, hdr.Name)
		if !hdr.ModTime.Equal(date) || hdr.Uid != 0 || hdr.Uname != "root" {
			t.Errorf("%s: time %s, owner %d %s", hdr.Name, hdr.ModTime, hdr.Uid, hdr.Uname)
		}
		if strings.HasSuffix(hdr.Name, "changelog.Debian.gz") {
			z, err := gzip.NewReader(content)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(z)
			if string(text) != "p (1-1) unstable\n" {
				t.Errorf("changelog: %q", text)
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := "./ ./etc/ ./etc/p ./usr/ ./usr/bin/ ./usr/bin/p ./usr/share/ ./usr/share/doc/ ./usr/share/doc/p/ ./usr/share/doc/p/changelog.Debian.gz"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("paths:\n%s\nwant:\n%s", got, want)
	}
}
