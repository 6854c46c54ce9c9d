package layer_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/deb/debtest"
	"github.com/dind-cluster/dind-cluster/image/dpkg"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/state"
	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// filesystem is a package like base-files, which has the links of a merged /usr.
var filesystem = debtest.Package{
	Name: "filesystem",
	Files: []debtest.File{
		{Path: "./"}, {Path: "./usr/"}, {Path: "./usr/bin/"}, {Path: "./usr/sbin/"}, {Path: "./usr/lib/"},
		{Path: "./bin", Link: "usr/bin"}, {Path: "./sbin", Link: "usr/sbin"}, {Path: "./lib", Link: "usr/lib"},
		{Path: "./tmp/", Mode: 0o1777},
		{Path: "./usr/share/base-passwd/passwd.master", Content: "root:*:0:0:root:/root:/bin/bash\n"},
		{Path: "./usr/share/base-passwd/group.master", Content: "root:*:0:\nshadow:*:42:\n"},
	},
}

var program = debtest.Package{
	Name: "program", Version: "2.0-1", Compression: "zst",
	Members: map[string]string{"conffiles": "/etc/program.conf\n"},
	Files: []debtest.File{
		{Path: "./"}, {Path: "./bin/"},
		{Path: "./bin/program", Content: "program", Mode: 0o755},
		{Path: "./bin/again", HardLink: "./bin/program"},
		{Path: "./lib/systemd/system/program.service", Content: "[Unit]\nDescription=x\n[Install]\nWantedBy=multi-user.target\nAlias=other.service\n"},
		{Path: "./lib/systemd/system/idle.service", Content: "[Install]\nWantedBy=x.target\n"},
		{Path: "./etc/program.conf", Content: "a=b\n"},
		{Path: "./sbin/capable", Content: "x", Mode: 0o755, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\xfe"}},
		{Path: "./usr/bin/setgid", Content: "y", Mode: 0o2755, GID: 42},
	},
}

// built is a layer as a reader sees it.
type built struct {
	listing, state string
	blob           []byte
	metadata       *layer.Metadata
}

func build(t testing.TB, spec layer.Spec) (*built, error) {
	t.Helper()
	spec.Name = "//test"
	l, err := layer.Build(&spec)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var blob, listing bytes.Buffer
	b := &built{state: filepath.Join(t.TempDir(), "state")}
	if b.metadata, err = layer.WriteBlob(&blob, l.Entries, &spec); err != nil {
		return nil, err
	}
	if err := mtree.Write(&listing, l.Entries); err != nil {
		return nil, err
	}
	b.blob, b.listing = blob.Bytes(), listing.String()
	return b, l.State.Write(b.state)
}

func mustBuild(t testing.TB, spec layer.Spec) *built {
	t.Helper()
	b, err := build(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file returns the content of a layer's file.
func (b *built) file(t testing.TB, path string) string {
	t.Helper()
	tr := tar.NewReader(b.tar(t))
	for {
		hdr, err := tr.Next()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if hdr.Name == path {
			text, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
}

func (b *built) tar(t testing.TB) io.Reader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b.blob, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := compression.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func declaration(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "declaration.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantLines(t testing.TB, listing string, lines ...string) {
	t.Helper()
	have := strings.Split(listing, "\n")
	for _, line := range lines {
		if !slices.Contains(have, line) {
			t.Errorf("the listing lacks %q", line)
		}
	}
	if t.Failed() {
		t.Logf("listing:\n%s", listing)
	}
}

func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error lacks %q:\n%v", part, err)
		}
	}
}

func TestMergedUsr(t *testing.T) {
	// The package with the links is neither first in the list nor by name.
	b := mustBuild(t, layer.Spec{Debs: []string{program.Write(t), filesystem.Write(t)}})
	wantLines(t, b.listing,
		"./bin type=link link=usr/bin",
		"./usr/bin/program mode=0755 size=7 sha256=1310ca2c8932",
		"./usr/bin/setgid mode=2755 gid=42 size=1 sha256=a1fce4363854",
		"./usr/sbin/capable mode=0755 size=1 sha256=2d711642b726 xattr.security.capability=010000fe",
		"./tmp type=dir mode=1777",
		"./usr/lib/systemd type=dir mode=0755",
	)
	if strings.Contains(b.listing, "./bin/program") {
		t.Error("a file is behind a link")
	}
	var names, links []string
	sizes := map[string]int64{}
	tr := tar.NewReader(b.tar(t))
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(hdr.Name, "/")
		names, sizes[name] = append(names, name), hdr.Size
		switch hdr.Typeflag {
		case tar.TypeReg:
		case tar.TypeLink:
			sizes[name] = sizes[hdr.Linkname]
		default:
			sizes[name] = -1
		}
		if hdr.Typeflag == tar.TypeLink {
			links = append(links, hdr.Name+" -> "+hdr.Linkname)
		}
		if hdr.ModTime.Unix() != 0 || hdr.Uname != "" || hdr.Gname != "" {
			t.Errorf("%s has time %v, owner %q:%q", hdr.Name, hdr.ModTime, hdr.Uname, hdr.Gname)
		}
		if hdr.Format == tar.FormatPAX && hdr.PAXRecords["SCHILY.xattr.security.capability"] == "" {
			t.Errorf("%s is in PAX format without need", hdr.Name)
		}
	}
	if !slices.IsSortedFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[a], sizes[b]), cmp.Compare(a, b))
	}) {
		t.Errorf("the entries are not sorted, files by size: %q", names)
	}
	if want := []string{"usr/bin/program -> usr/bin/again"}; !slices.Equal(links, want) {
		t.Errorf("hard links %q, want %q", links, want)
	}
}

func TestMetadata(t *testing.T) {
	for compression, mediaType := range map[string]string{"": layer.MediaTypeZstd, "gzip": layer.MediaTypeGzip, "none": layer.MediaTypeUncompressed} {
		b := mustBuild(t, layer.Spec{Debs: []string{program.Write(t)}, Compression: compression})
		plain, err := io.ReadAll(b.tar(t))
		if err != nil {
			t.Fatal(err)
		}
		want := layer.Metadata{
			Name: "//test", MediaType: mediaType,
			Digest: digest(b.blob), Size: int64(len(b.blob)), DiffID: digest(plain), TarSize: int64(len(plain)),
		}
		if *b.metadata != want {
			t.Errorf("metadata %+v\nwant %+v", *b.metadata, want)
		}
	}
	if _, err := build(t, layer.Spec{Compression: "brotli"}); err == nil {
		t.Error("an unknown compression is taken")
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// TestDeterminism: neither the order of the inputs nor the number of cores matters.
func TestDeterminism(t *testing.T) {
	debs := []string{program.Write(t), filesystem.Write(t)}
	// Larger than what one core compresses at a time.
	var large strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&large, i*i)
	}
	for i := range 3 {
		p := debtest.Package{Name: fmt.Sprintf("p%d", i), Files: []debtest.File{{Path: fmt.Sprintf("./usr/share/%d", i), Content: large.String()[i:]}}}
		debs = append(debs, p.Write(t))
	}
	first := mustBuild(t, layer.Spec{Debs: debs})
	state, err := os.ReadFile(first.state)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, cores := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(cores)
		slices.Reverse(debs)
		again := mustBuild(t, layer.Spec{Debs: debs})
		if !bytes.Equal(first.blob, again.blob) {
			t.Errorf("with %d cores the layer has digest %s, not %s", cores, again.metadata.Digest, first.metadata.Digest)
		}
		if text, err := os.ReadFile(again.state); err != nil || !bytes.Equal(text, state) {
			t.Errorf("with %d cores the state differs (%v)", cores, err)
		}
	}
}

func TestUnacknowledgedScript(t *testing.T) {
	p := debtest.Package{Name: "scripted", Version: "3", Members: map[string]string{
		"postinst": "#!/bin/sh\n", "postrm": "#!/bin/sh\n", "triggers": "activate-noawait ldconfig\n",
	}}
	spec := layer.Spec{Debs: []string{p.Write(t)}}
	_, err := build(t, spec)
	wantError(t, err, "package scripted 3 has a postinst script", "postrm", "packages.scripted.scripts.postinst", `trigger "ldconfig"`)

	spec.Declarations = []string{declaration(t, "scripts: {postrm: never runs}\ntriggers: {ldconfig: no cache}\n")}
	_, err = build(t, spec)
	wantError(t, err, "postinst", spec.Declarations[0])

	spec.Declarations = append(spec.Declarations, declaration(t, "packages: {scripted: {scripts: {postinst: does nothing}}}\n"))
	mustBuild(t, spec)
}

// TestWithout takes a dependency out of dpkg's database, here and in the layers above.
func TestWithout(t *testing.T) {
	const name = "packages: {needy: {without: {gone: 'another takes its place'}}}\ncomplete: true\n"
	needy := debtest.Package{Name: "needy", Version: "1", Control: "Depends: gone (>= 1), program\n", Files: []debtest.File{{Path: "./"}}}
	spec := layer.Spec{Debs: []string{program.Write(t), needy.Write(t)}, Declarations: []string{declaration(t, "complete: true\n")}}
	_, err := build(t, spec)
	wantError(t, err, "package needy needs gone (>= 1), which is not there")

	spec.Declarations = []string{declaration(t, name)}
	b := mustBuild(t, spec)
	below, err := state.Read(b.state)
	if err != nil {
		t.Fatal(err)
	}
	if status := below.Shared[dpkg.StatusPath]; !strings.Contains(status, "\nDepends: program\n") {
		t.Errorf("dpkg's status:\n%s", status)
	}
	other := debtest.Package{Name: "other", Version: "1", Files: []debtest.File{{Path: "./"}}}
	mustBuild(t, layer.Spec{Debs: []string{other.Write(t)}, Below: b.state})

	spec.Declarations = []string{declaration(t, "packages: {needy: {without: {program2: 'no reason'}}}\n")}
	_, err = build(t, spec)
	wantError(t, err, "has package needy do without program2, which it does not depend on")
}

func TestStaleDeclaration(t *testing.T) {
	spec := layer.Spec{Debs: []string{program.Write(t)}}
	spec.Declarations = []string{declaration(t, "packages: {gone: {scripts: {postinst: x}}, program: {scripts: {preinst: x}}}\n")}
	_, err := build(t, spec)
	wantError(t, err, "package gone, which is not in this layer", "preinst script of package program, which has none")
}

func TestBadDeclaration(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no reason":       {"packages: {a: {scripts: {postinst: ''}}}", "needs a reason"},
		"without why":     {"packages: {a: {without: {b: ''}}}", "needs a reason"},
		"unknown field":   {"packages: {a: {skripts: {}}}", "skripts"},
		"unknown script":  {"packages: {a: {scripts: {postint: x}}}", `"postint" is not one of`},
		"postinst of all": {"scripts: {postinst: x}", `"postinst" is not one of`},
		"no yaml":         {"{", "not a valid declaration"},
		"bad mode":        {"files: [{path: /a, mode: '99'}]", "octal"},
		"climbing":        {"files: [{path: /../a}]", "climbs out"},
		"missing copy":    {"copies: [{from: /a, to: /b}]", "no package brings"},
		"missing unit":    {"enable: [a.service]", "no such unit"},
		"missing choice":  {"alternatives: [{name: a, link: /a, path: /b, priority: 1}]", "/b does not exist"},
		"no certificates": {"caBundle: true", "no package brings certificates"},
		"no sysusers":     {"sysusers: [a.conf]", "no package of this layer brings"},
		"nothing there":   {"remove: [/a]", "nothing brings it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := build(t, layer.Spec{Declarations: []string{declaration(t, c.text)}})
			wantError(t, err, c.want)
		})
	}
}

func TestConflict(t *testing.T) {
	one := debtest.Package{Name: "one", Files: []debtest.File{{Path: "./usr/share/x", Content: "1"}, {Path: "./etc/d/", Mode: 0o700}}}
	two := debtest.Package{Name: "two", Files: []debtest.File{{Path: "./usr/share/x", Content: "2"}, {Path: "./etc/d/same", Content: "s"}}}
	debs := []string{two.Write(t), one.Write(t)}
	_, err := build(t, layer.Spec{Debs: debs})
	wantError(t, err, "conflict at /usr/share/x", "package one: file of 1 bytes", "package two")

	for winner, content := range map[string]string{"one": "1", "two": "2"} {
		d := declaration(t, fmt.Sprintf("overrides: [{path: /usr/share/x, winner: %s, reason: test}]\n", winner))
		b := mustBuild(t, layer.Spec{Debs: debs, Declarations: []string{d}})
		if got := b.file(t, "usr/share/x"); got != content {
			t.Errorf("%s wins with %q", winner, got)
		}
	}
	_, err = build(t, layer.Spec{Debs: debs, Declarations: []string{declaration(t, "overrides: [{path: /usr/share/x, winner: three, reason: test}]")}})
	wantError(t, err, "neither")

	b := mustBuild(t, layer.Spec{Debs: debs, Declarations: []string{declaration(t, "exclude: [/usr/*]")}})
	wantLines(t, b.listing, "./etc/d type=dir mode=0700", "./etc/d/same size=1 sha256=043a718774c5")
	if !strings.Contains(b.file(t, "var/lib/dpkg/info/one.list"), "/usr/share/x\n") {
		t.Error("dpkg does not list what is excluded")
	}
}

// TestExcludeAbove: what a layer excludes is excluded above it too, unless a layer
// there has patterns of its own.
func TestExcludeAbove(t *testing.T) {
	p := debtest.Package{Name: "documented", Files: []debtest.File{{Path: "./usr/share/doc/a", Content: "1"}, {Path: "./usr/share/x", Content: "x"}}}
	lower := mustBuild(t, layer.Spec{Declarations: []string{declaration(t, "exclude: [/usr/share/doc/*]")}})
	upper := mustBuild(t, layer.Spec{Below: lower.state, Debs: []string{p.Write(t)}, Declarations: []string{declaration(t, "directories: [{path: /a}]")}})
	if strings.Contains(upper.listing, "/doc/a") {
		t.Error("the upper layer has what the lower one excludes")
	}
	own := mustBuild(t, layer.Spec{Below: lower.state, Debs: []string{p.Write(t)}, Declarations: []string{declaration(t, "exclude: [/usr/share/x]")}})
	if !strings.Contains(own.listing, "/doc/a") || strings.Contains(own.listing, "/share/x ") {
		t.Error("the upper layer's own patterns do not count")
	}
}

func TestSameIsNoConflict(t *testing.T) {
	one := debtest.Package{Name: "one", Files: []debtest.File{{Path: "./usr/share/x", Content: "1"}}}
	two := debtest.Package{Name: "two", Files: []debtest.File{{Path: "./usr/share/x", Content: "1"}}}
	mustBuild(t, layer.Spec{Debs: []string{one.Write(t), two.Write(t)}})
}

func TestFileUsedAsDirectory(t *testing.T) {
	one := debtest.Package{Name: "one", Files: []debtest.File{{Path: "./a", Content: "1"}}}
	two := debtest.Package{Name: "two", Files: []debtest.File{{Path: "./a/b", Content: "2"}}}
	_, err := build(t, layer.Spec{Debs: []string{one.Write(t), two.Write(t)}})
	wantError(t, err, "/a is used as a directory by package two", "package one")
}

func TestHostilePackages(t *testing.T) {
	for name, c := range map[string]struct {
		files []debtest.File
		want  string
	}{
		"climbing path":      {[]debtest.File{{Path: "../evil", Content: "x"}}, "climbs out"},
		"climbing inside":    {[]debtest.File{{Path: "./usr/../../evil", Content: "x"}}, "climbs out"},
		"climbing hard link": {[]debtest.File{{Path: "./a", HardLink: "../../etc/shadow"}}, "climbs out"},
		"dangling hard link": {[]debtest.File{{Path: "./a", HardLink: "./b"}}, "no earlier file"},
		"endless links":      {[]debtest.File{{Path: "./a", Link: "b"}, {Path: "./b", Link: "a"}, {Path: "./a/c", Content: "x"}}, "more than 40 symbolic links"},
		"root as a file":     {[]debtest.File{{Path: "./usr", Link: "/"}, {Path: "./usr/usr", Content: "x"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := debtest.Package{Name: "hostile", Files: c.files}
			_, err := build(t, layer.Spec{Debs: []string{p.Write(t)}})
			wantError(t, err, c.want)
		})
	}
}

// TestLinkOutOfTheRoot: a link that points above the root leads to the root, as it
// would in a container.
func TestLinkOutOfTheRoot(t *testing.T) {
	p := debtest.Package{Name: "hostile", Files: []debtest.File{{Path: "./out", Link: "../../../../tmp"}, {Path: "./out/x", Content: "x"}}}
	b := mustBuild(t, layer.Spec{Debs: []string{p.Write(t)}})
	wantLines(t, b.listing, "./tmp/x size=1 sha256=2d711642b726")
}

func TestTruncatedPackage(t *testing.T) {
	whole := program.Bytes(t)
	path := write(t, string(whole[:len(whole)-40]))
	_, err := build(t, layer.Spec{Debs: []string{path}})
	wantError(t, err, "unpacking "+path, "unexpected EOF")
}

const accounts = `
packages:
  filesystem:
    copies:
      - {from: /usr/share/base-passwd/passwd.master, to: /etc/passwd}
      - {from: /usr/share/base-passwd/group.master, to: /etc/group}
    shadow: true
`

func TestUpperLayer(t *testing.T) {
	lower := mustBuild(t, layer.Spec{Debs: []string{filesystem.Write(t)}, Declarations: []string{declaration(t, accounts)}})
	wantLines(t, lower.listing, "./etc/shadow mode=0640 gid=42 size=21 sha256=aa8ebef38521")

	upper := mustBuild(t, layer.Spec{
		Below: lower.state, Debs: []string{program.Write(t)},
		Declarations: []string{declaration(t, `
packages:
  program:
    groups: [{name: operators, gid: 500, members: [prog]}]
    users: [{name: prog, uid: 500, gid: 500}]
    enable: [program.service]
    mask: [noise.service]
`)},
		Files:    []layer.File{{Source: write(t, "hello"), Path: "/lib/hello", Mode: "0600", UID: 7}},
		Symlinks: []layer.Link{{Path: "/sbin/link", Target: "/usr/bin/program"}},
	})
	wantLines(t, upper.listing,
		"./usr/lib/hello mode=0600 uid=7 size=5 sha256=2cf24dba5fb0",
		"./usr/sbin/link type=link link=/usr/bin/program",
		"./etc/systemd/system/multi-user.target.wants/program.service type=link link=/usr/lib/systemd/system/program.service",
		"./etc/systemd/system/other.service type=link link=/usr/lib/systemd/system/program.service",
		"./etc/systemd/system/noise.service type=link link=/dev/null",
	)
	for _, path := range []string{"./usr/bin ", "./tmp", "./bin "} {
		if strings.Contains(upper.listing, "\n"+path) {
			t.Errorf("the upper layer repeats %s", path)
		}
	}
	if got, want := upper.file(t, "etc/passwd"), "root:x:0:0:root:/root:/bin/bash\nprog:x:500:500::/nonexistent:/usr/sbin/nologin\n"; got != want {
		t.Errorf("passwd %q, want %q", got, want)
	}
	if got, want := upper.file(t, "etc/group"), "root:x:0:\nshadow:x:42:\noperators:x:500:prog\n"; got != want {
		t.Errorf("group %q, want %q", got, want)
	}
	status := upper.file(t, "var/lib/dpkg/status")
	for _, want := range []string{
		"Package: filesystem\nStatus: install ok installed\nVersion: 1.0\n",
		"Package: program\nStatus: install ok installed\nVersion: 2.0-1\n",
		"Conffiles:\n /etc/program.conf 6aea67367311873a8a1383e4373a0e3c\n",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("dpkg's status lacks %q:\n%s", want, status)
		}
	}

	top := mustBuild(t, layer.Spec{Below: upper.state, Declarations: []string{declaration(t, "enable: [program.service, idle.service]\n")}})
	wantLines(t, top.listing, "./etc/systemd/system/x.target.wants/idle.service type=link link=/usr/lib/systemd/system/idle.service")
	if strings.Contains(top.listing, "program.service") {
		t.Error("what is enabled below is enabled again")
	}

	// The same file again, its attributes too, is no conflict, and not repeated.
	again := debtest.Package{Name: "again", Files: []debtest.File{{Path: "./sbin/capable", Content: "x", Mode: 0o755, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\xfe"}}}}
	if b := mustBuild(t, layer.Spec{Below: upper.state, Debs: []string{again.Write(t)}}); strings.Contains(b.listing, "capable") {
		t.Error("a file of a layer below is repeated")
	}

	_, err := build(t, layer.Spec{Below: lower.state, Debs: []string{filesystem.Write(t)}})
	wantError(t, err, "package filesystem", "is in a layer below")

	clash := debtest.Package{Name: "clash", Files: []debtest.File{{Path: "./usr/share/base-passwd/passwd.master", Content: "mine"}}}
	_, err = build(t, layer.Spec{Below: lower.state, Debs: []string{clash.Write(t)}})
	wantError(t, err, "conflict at /usr/share/base-passwd/passwd.master", "package filesystem", "package clash")
}

func TestEffects(t *testing.T) {
	p := debtest.Package{Name: "effective", Files: []debtest.File{
		{Path: "./usr/sbin/tool-new", Content: "new", Mode: 0o755},
		{Path: "./usr/sbin/tool-old", Content: "old", Mode: 0o755},
		{Path: "./usr/sbin/tool-new-save", Content: "save", Mode: 0o755},
		{Path: "./usr/share/ca-certificates/m/B.crt", Content: "-----BEGIN CERTIFICATE-----\nB\n-----END CERTIFICATE-----\n"},
		{Path: "./usr/share/ca-certificates/m/A.crt", Content: "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----"},
		{Path: "./usr/lib/sysusers.d/e.conf", Content: "# comment\ng wheel - -\nu! daemon 1:2 \"The daemon\" /var/d /bin/sh\nu free - - -\nm free wheel\n"},
		{Path: "./usr/share/default.conf", Content: "d\n"},
		{Path: "./var/run/", Mode: 0o755},
	}}
	b := mustBuild(t, layer.Spec{Debs: []string{p.Write(t)}, Declarations: []string{declaration(t, `
packages:
  effective:
    remove: [/var/run]
    symlinks: [{path: /var/run, target: /run}]
    directories: [{path: /srv, mode: "2775", gid: 8}]
    files: [{path: /etc/hello, content: "hello\n"}]
    copies: [{from: /usr/share/default.conf, to: /etc/default.conf}]
    sysusers: [e.conf]
    caBundle: true
    attributes: [{path: /usr/sbin/tool-old, mode: "0700", uid: 3, xattrs: {user.a: b}}]
    diversions: [{path: /usr/sbin/diverted, to: /usr/sbin/diverted.real, by: effective}]
    alternatives:
      - name: tool
        link: /usr/sbin/tool
        path: /usr/sbin/tool-new
        priority: 20
        slaves:
          - {name: tool-save, link: /usr/sbin/tool-save, path: /usr/sbin/tool-new-save}
          - {name: tool.1, link: /usr/share/man/tool.1, path: /usr/share/man/excluded.1}
      - {name: tool, link: /usr/sbin/tool, path: /usr/sbin/tool-old, priority: 10}
`)}})
	wantLines(t, b.listing,
		"./var/run type=link link=/run",
		"./srv type=dir mode=2775 gid=8",
		"./etc/hello size=6 sha256=5891b5b522d5",
		"./etc/default.conf size=2 sha256=8d74beec1be9",
		"./usr/sbin/tool type=link link=/etc/alternatives/tool",
		"./etc/alternatives/tool type=link link=/usr/sbin/tool-new",
		"./etc/alternatives/tool-save type=link link=/usr/sbin/tool-new-save",
		"./usr/sbin/tool-old mode=0700 uid=3 size=3 sha256=cba06b5736fa xattr.user.a=62",
		"./etc/ssl/certs/A.pem type=link link=/usr/share/ca-certificates/m/A.crt",
	)
	for path, want := range map[string]string{
		"var/lib/dpkg/alternatives/tool":    "auto\n/usr/sbin/tool\ntool-save\n/usr/sbin/tool-save\n\n/usr/sbin/tool-new\n20\n/usr/sbin/tool-new-save\n/usr/sbin/tool-old\n10\n\n\n",
		"etc/ssl/certs/ca-certificates.crt": "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nB\n-----END CERTIFICATE-----\n",
		"etc/ca-certificates.conf":          "m/A.crt\nm/B.crt\n",
		"var/lib/dpkg/diversions":           "/usr/sbin/diverted\n/usr/sbin/diverted.real\neffective\n",
	} {
		if got := b.file(t, path); got != want {
			t.Errorf("%s:\n%q\nwant\n%q", path, got, want)
		}
	}
	_ = b
}

func TestFolderAndTar(t *testing.T) {
	dir := t.TempDir()
	for path, mode := range map[string]os.FileMode{"a/program": 0o755, "b": 0o644} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(path), mode); err != nil {
			t.Fatal(err)
		}
	}
	inner := mustBuild(t, layer.Spec{Debs: []string{program.Write(t)}})
	b := mustBuild(t, layer.Spec{
		Files: []layer.File{{Source: dir, Path: "/opt"}},
		Tars:  []string{write(t, string(inner.blob))},
	})
	wantLines(t, b.listing,
		"./opt/a/program mode=0755 size=9 sha256=c682e05d206e",
		"./opt/b size=1 sha256=3e23e8160039",
		"./sbin/capable mode=0755 size=1 sha256=2d711642b726 xattr.security.capability=010000fe",
	)
}

// TestDpkg lets the real dpkg look at its database.
func TestDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("no dpkg here")
	}
	b := mustBuild(t, layer.Spec{Debs: []string{filesystem.Write(t), program.Write(t)}})
	root := t.TempDir()
	tr := tar.NewReader(b.tar(t))
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, hdr.Name)
		switch {
		case hdr.Typeflag == tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case hdr.Typeflag == tar.TypeReg && strings.HasPrefix(hdr.Name, "var/"):
			var content []byte
			if content, err = io.ReadAll(tr); err == nil {
				err = os.WriteFile(path, content, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(dpkg, "--root="+root, "--audit").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("dpkg --audit: %v\n%s", err, out)
	}
	out, err = exec.Command("dpkg-query", "--admindir="+root+"/var/lib/dpkg", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n").CombinedOutput()
	if want := "filesystem 1.0 ii \nprogram 2.0-1 ii \n"; err != nil || string(out) != want {
		t.Errorf("dpkg-query: %v\n%q, want %q", err, out, want)
	}
	out, err = exec.Command("dpkg-query", "--admindir="+root+"/var/lib/dpkg", "-S", "/bin/program").CombinedOutput()
	if err != nil || string(out) != "program: /bin/program\n" {
		t.Errorf("dpkg-query -S: %v\n%s", err, out)
	}
}
