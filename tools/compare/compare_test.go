package compare

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.etcd.io/bbolt"

	"github.com/dind-cluster/dind-cluster/internal/compression/compresstest"
)

// entry is an entry of a tar archive in a test.
type entry struct {
	tar.Header
	content []byte
}

func file(name string, content []byte) entry {
	return entry{tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1, 0)}, content}
}

func with(e entry, change func(*tar.Header)) entry {
	change(&e.Header)
	return e
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Header.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipOf(t testing.TB, content []byte, level int, change func(*gzip.Header)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&w.Header)
	}
	w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// member is a member of an ar archive; stamp is its modification time.
type member struct {
	name, stamp string
	content     []byte
}

func arOf(members ...member) []byte {
	b := []byte("!<arch>\n")
	for _, m := range members {
		b = fmt.Appendf(b, "%-16s%-12s%-6d%-6d%-8s%-10d`\n", m.name, m.stamp, 0, 0, "100644", len(m.content))
		b = append(b, m.content...)
		if len(m.content)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// debOf is a Debian package with one file.
func debOf(t testing.TB, control, stamp string, data ...entry) []byte {
	return arOf(
		member{"debian-binary", stamp, []byte("2.0\n")},
		member{"control.tar.gz", stamp, gzipOf(t, tarOf(t, file("./control", []byte(control))), 6, nil)},
		member{"data.tar.gz", stamp, gzipOf(t, tarOf(t, data...), 6, nil)},
	)
}

// boltOf is a database of one bucket in another.
func boltOf(t testing.TB, values map[string]string, pageSize int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		outer, err := tx.CreateBucket([]byte("v1"))
		if err != nil {
			return err
		}
		inner, err := outer.CreateBucket([]byte("images"))
		if err != nil {
			return err
		}
		for key, value := range values {
			if err := inner.Put([]byte(key), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// elfOf is the smallest ELF file with two sections of contents.
func elfOf(t testing.TB, note, text []byte) []byte {
	t.Helper()
	names := []byte("\x00.note\x00.text\x00.shstrtab\x00")
	const headerLength, sectionLength = 64, 64
	var body bytes.Buffer
	offset := func(content []byte) (uint64, uint64) {
		at := headerLength + uint64(body.Len())
		body.Write(content)
		return at, uint64(len(content))
	}
	sections := make([]elf.Section64, 4)
	for i, s := range []struct {
		name    uint32
		kind    elf.SectionType
		content []byte
	}{{1, elf.SHT_NOTE, note}, {7, elf.SHT_PROGBITS, text}, {13, elf.SHT_STRTAB, names}} {
		at, size := offset(s.content)
		sections[i+1] = elf.Section64{Name: s.name, Type: uint32(s.kind), Off: at, Size: size, Addralign: 1}
	}
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: headerLength + uint64(body.Len()), Ehsize: headerLength, Shentsize: sectionLength, Shnum: 4, Shstrndx: 3,
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, header)
	b.Write(body.Bytes())
	binary.Write(&b, binary.LittleEndian, sections)
	return b.Bytes()
}

// TestPlanted compares outputs into which a difference was planted.
func TestPlanted(t *testing.T) {
	hello := file("usr/bin/hello", []byte("#!/bin/sh\necho hello\n"))
	other := file("usr/bin/hello", []byte("#!/bin/sh\necho other\n"))
	layer := func(entries ...entry) []byte { return gzipOf(t, tarOf(t, entries...), 6, nil) }
	binary := func(last byte) []byte { return append(bytes.Repeat([]byte{0, 1}, 300_000), last) }
	for _, tt := range []struct {
		name string
		a, b []byte
		want string // of the difference; empty is none
	}{
		{"equal", []byte("x"), []byte("x"), ""},
		{"empty", nil, nil, ""},
		{"text", []byte("a\nb\nc\n"), []byte("a\nB\nc\n"), "line 2: B, not b"},
		{"text that is longer", []byte("a\n"), []byte("a\nb\n"), "line 2: b, not the end"},
		{"end of a long line", []byte(strings.Repeat("x", 500) + "1"), []byte(strings.Repeat("x", 500) + "2"),
			"line 1: …" + strings.Repeat("x", 40) + "2, not …" + strings.Repeat("x", 40) + "1"},
		{"end of a text", []byte("a\nb"), []byte("a\nb\n"), "byte 3: 0a, not the end"},
		{"long value in JSON", []byte(`{"a":"` + strings.Repeat("x", 500) + `1"}`), []byte(`{"a":"` + strings.Repeat("x", 500) + `2"}`), `a: …"xxx`},
		{"bytes", binary(1), binary(2), "byte 600000: 02, not 01"},
		{"bytes, cut off", binary(1), binary(1)[:600_000], "byte 600000: the end, not 01"},
		{"config of an image", []byte(`{"config":{"Env":["A=1","B=2"]},"created":"x"}`), []byte(`{"created":"x","config":{"Env":["A=1","B=3"]}}`),
			`config.Env[1]: "B=3", not "B=2"`},
		{"label of an image", []byte(`{"Labels":{"a.b":"1"}}`), []byte(`{"Labels":{}}`), `Labels["a.b"]: nothing, not "1"`},
		{"JSON without a name", []byte(`{"":[]}`), []byte(`{}`), `[""]: nothing, not []`},
		{"JSON with a member more", []byte(`{"a":1}`), []byte(`{"a":1,"b":null}`), "b: null, not nothing"},
		{"JSON with an element less", []byte(`[1,[2,{}]]`), []byte(`[1,[2]]`), "[1][1]: nothing, not {}"},
		{"JSON of another kind", []byte(`[{"a":{}}]`), []byte(`[{"a":1}]`), "[0].a: 1, not {}"},
		{"JSON written otherwise", []byte(`{"a": 1}`), []byte(`{"a":1}`), `line 1: "{\"a\":1}", not "{\"a\": 1}" (the same values: written in another way)`},
		{"JSON that is none", []byte(`{"a":1}`), []byte(`{"a":`), `line 1: "{\"a\":", not "{\"a\":1}" (as JSON: unexpected EOF)`},
		{"file in a layer", layer(hello), layer(other), `usr/bin/hello: line 2: "echo other", not "echo hello"`},
		{"mode in a layer", layer(hello), layer(with(hello, func(h *tar.Header) { h.Mode = 0o755 })), "usr/bin/hello: mode: 0755, not 0644"},
		{"time in a layer", layer(hello), layer(with(hello, func(h *tar.Header) { h.ModTime = time.Unix(2, 0) })),
			`usr/bin/hello: modification time: "1970-01-01 00:00:02 +0000 UTC", not "1970-01-01 00:00:01 +0000 UTC"`},
		{"owner in a layer", layer(hello), layer(with(hello, func(h *tar.Header) { h.Uid = 7 })), "usr/bin/hello: owner: 7, not 0"},
		{"xattr in a layer", layer(hello), layer(with(hello, func(h *tar.Header) {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"}
			h.Format = tar.FormatPAX
		})), "usr/bin/hello: tar format: PAX, not USTAR"},
		{"value of an xattr", layer(with(hello, func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"} })),
			layer(with(hello, func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "2"} })),
			"usr/bin/hello: record SCHILY.xattr.user.a: 2, not 1"},
		{"link in a layer", layer(entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"}}),
			layer(entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "b"}}), "l: link: b, not a"},
		{"order in a layer", layer(hello, file("z", nil)), layer(file("z", nil), hello), "entry: z, not usr/bin/hello"},
		{"entry more in a layer", layer(hello), layer(hello, file("z", nil)), `entry: z, not the end`},
		{"file that is longer in a layer", layer(file("a", []byte("1\n"))), layer(file("a", []byte("1\n2\n"))), `a: line 2: 2, not the end`},
		{"image in a layer", layer(file("images/etcd.tar", tarOf(t, hello))), layer(file("images/etcd.tar", tarOf(t, other))),
			`images/etcd.tar: usr/bin/hello: line 2: "echo other", not "echo hello"`},
		{"level of a compressor", gzipOf(t, bytes.Repeat([]byte("ab"), 999), 1, nil), gzipOf(t, bytes.Repeat([]byte("ab"), 999), 9, nil), "the same once uncompressed"},
		{"header of gzip", gzipOf(t, []byte("a"), 6, nil), gzipOf(t, []byte("a"), 6, func(h *gzip.Header) { h.ModTime = time.Unix(5, 0) }),
			`modification time in gzip's header: "1970-01-01 00:00:05 +0000 UTC"`},
		{"damaged gzip", layer(hello), layer(hello)[:40], "(as gzip: unexpected EOF)"},
		{"zstd", compresstest.Zstd(t, tarOf(t, hello)), compresstest.Zstd(t, tarOf(t, other)), `usr/bin/hello: line 2: "echo other"`},
		{"control of a package", debOf(t, "Version: 1\n", "0", hello), debOf(t, "Version: 2\n", "0", hello),
			`control.tar.gz: ./control: line 1: "Version: 2", not "Version: 1"`},
		{"file in a package", debOf(t, "", "0", hello), debOf(t, "", "0", other), `data.tar.gz: usr/bin/hello: line 2: "echo other"`},
		{"time of a package", debOf(t, "", "0", hello), debOf(t, "", "1", hello), "debian-binary: modification time: 1, not 0"},
		{"member more", arOf(member{"a", "0", nil}), arOf(member{"a", "0", nil}, member{"b", "0", nil}), "member: b, not nothing"},
		{"section of a program", elfOf(t, []byte("note"), []byte("\x00text")), elfOf(t, []byte("note"), []byte("\x00tEXT")), "section .text: byte 2: 45 58 54, not 65 78 74"},
		{"first of two sections", elfOf(t, []byte("\x00note"), []byte("\x00text")), elfOf(t, []byte("\x00N"), []byte("\x00tEXT")), "section .note: byte 1: 4e, not 6e 6f 74 65"},
		{"program in a layer", layer(file("p", elfOf(t, []byte("id 1"), nil))), layer(file("p", elfOf(t, []byte("id 2"), nil))), `p: section .note: line 1: "id 2", not "id 1"`},
		{"value in a database", boltOf(t, map[string]string{"a": "1", "b": "2"}, 0), boltOf(t, map[string]string{"a": "1", "b": "3"}, 0), "v1: images: b: line 1: 3, not 2"},
		{"key in a database", boltOf(t, map[string]string{"a": ""}, 0), boltOf(t, map[string]string{"\x00\x01": ""}, 0), "v1: images: key: 0001, not a"},
		{"pages of a database", boltOf(t, map[string]string{"a": "1"}, 4096), boltOf(t, map[string]string{"a": "1"}, 8192), "the same keys and values"},
		{"database in a layer", layer(file("meta.db", boltOf(t, map[string]string{"a": `{"k":1}`}, 0))),
			layer(file("meta.db", boltOf(t, map[string]string{"a": `{"k":2}`}, 0))), "meta.db: v1: images: a: k: 2, not 1"},
		{"damaged database", boltOf(t, map[string]string{"a": "1"}, 0), damaged(boltOf(t, map[string]string{"a": "1"}, 0)), "(as a bolt database: "},
		{"two kinds", layer(hello), []byte("text"), "byte 0: 74 65 78 74, not 1f 8b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
			write(t, a, tt.a, 0o644)
			write(t, b, tt.b, 0o644)
			d, err := Paths(a, b)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case d == nil && tt.want != "":
				t.Errorf("no difference, want %s", tt.want)
			case d != nil && (tt.want == "" || !strings.Contains(d.String(), tt.want)):
				t.Errorf("%s, want %s", d, tt.want)
			}
		})
	}
}

// damaged makes the pages of a database lead nowhere, all but its meta pages.
func damaged(db []byte) []byte {
	page := os.Getpagesize()
	for i := 2 * page; i < len(db); i++ {
		db[i] = 0xff
	}
	return db
}

func TestFolders(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(t *testing.T, dir string)
	}{
		{"equal", "", func(*testing.T, string) {}},
		{"permissions", "", func(t *testing.T, dir string) { os.Chmod(filepath.Join(dir, "blobs/a"), 0o400) }},
		{"content", "blobs/a: line 1: other, not content", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "blobs/a"), []byte("other"), 0o644) }},
		{"file more", "entry: blobs/0, not blobs/a", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "blobs/0"), nil, 0o644) }},
		{"file less", "entry: link, not blobs/a", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "blobs/a")) }},
		{"run bit", "blobs/a: kind: a program, not ----------", func(t *testing.T, dir string) { os.Chmod(filepath.Join(dir, "blobs/a"), 0o755) }},
		{"link", "link: link: elsewhere, not blobs/a", func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "link"))
			os.Symlink("elsewhere", filepath.Join(dir, "link"))
		}},
		{"file for a folder", `kind`, func(t *testing.T, dir string) { os.RemoveAll(dir); write(t, dir, nil, 0o644) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var dirs []string
			for range 2 {
				dir := filepath.Join(t.TempDir(), "layout")
				write(t, filepath.Join(dir, "blobs/a"), []byte("content"), 0o644)
				if err := os.Symlink("blobs/a", filepath.Join(dir, "link")); err != nil {
					t.Fatal(err)
				}
				dirs = append(dirs, dir)
			}
			tt.change(t, dirs[1])
			d, err := Paths(dirs[0], dirs[1])
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(d); d == nil != (tt.want == "") || d != nil && !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %q", got, tt.want)
			}
		})
	}
	if _, err := Paths(filepath.Join(t.TempDir(), "none"), t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestDeep nests archives deeper than anyone looks.
func TestDeep(t *testing.T) {
	a, b := []byte("a"), []byte("b")
	for range 2 * maxDepth {
		a, b = tarOf(t, file("x", a)), tarOf(t, file("x", b))
	}
	d, err := Contents(section(a), section(b))
	if err != nil || d == nil || len(d.Path) != maxDepth || !strings.Contains(d.Note, "containers in each other") {
		t.Errorf("%v, %v", d, err)
	}
}

// TestLimit: what unpacks to more than there is room for is an unreadable stream.
func TestLimit(t *testing.T) {
	defer func(old int64) { maxSpool = old }(maxSpool)
	maxSpool = 1000
	d, err := Contents(section(gzipOf(t, make([]byte, 2000), 6, nil)), section(gzipOf(t, make([]byte, 2001), 6, nil)))
	if err != nil || d == nil || !strings.Contains(d.Note, "as gzip: more than 1000 bytes") {
		t.Errorf("%v, %v", d, err)
	}
}

// FuzzContents: equal is nil, anything else a difference, whatever the bytes.
func FuzzContents(f *testing.F) {
	maxSpool = 1 << 20
	add := func(seeds ...[]byte) {
		for i, a := range seeds {
			f.Add(a, seeds[(i+1)%len(seeds)])
		}
	}
	add([]byte("a\nb"), []byte("a\nc"), []byte("\x00"))
	add([]byte(`{"a":[1,"x"]}`), []byte(`{"a":[1,{}]}`), []byte(`[]`))
	add(tarOf(f, file("a", []byte("1"))), tarOf(f, file("a", []byte("2")), file("b", nil)))
	add(gzipOf(f, []byte("a"), 1, nil), gzipOf(f, []byte("b"), 9, nil))
	add(compresstest.Zstd(f, []byte("a")), compresstest.Zstd(f, []byte("b")))
	add(debOf(f, "A: b\n", "0", file("a", nil)), debOf(f, "A: c\n", "1", file("a", nil)))
	add(elfOf(f, []byte("a"), []byte("b")), elfOf(f, []byte("a"), []byte("c")))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		// bolt's own reader is not for arbitrary bytes; what of it is ours, TestPlanted has.
		if isBolt(a) && isBolt(b) {
			t.Skip()
		}
		d, err := Contents(section(a), section(b))
		if err != nil {
			t.Fatal(err)
		}
		if equal := bytes.Equal(a, b); equal != (d == nil) {
			t.Fatalf("equal: %v, difference: %v", equal, d)
		}
		if d != nil && (d.What == "" || d.A == d.B && d.Note == "" || strings.Contains(d.String(), "\n")) {
			t.Fatalf("%q, of %q and %q", d, d.A, d.B)
		}
	})
}

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
}
