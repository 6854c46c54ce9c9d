package mtree_test

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/mtree"
	"github.com/dind-cluster/dind-cluster/image/tree"
)

func TestLine(t *testing.T) {
	for _, c := range []struct {
		entry tree.Entry
		want  string
	}{
		{tree.Entry{Path: "", Type: tar.TypeDir, Mode: 0o755}, ". type=dir mode=0755"},
		{tree.Entry{Path: "a b#", Type: tar.TypeReg, Mode: 0o644, Size: 3, SHA256: "0123456789abcdef"}, `./a\040b\043 size=3 sha256=0123456789ab`},
		{tree.Entry{Path: "p", Type: tar.TypeReg, Mode: 0o4755, UID: 1, GID: 2}, "./p mode=4755 uid=1 gid=2 size=0"},
		{tree.Entry{Path: "l", Type: tar.TypeSymlink, Mode: 0o777, Link: "a=b"}, `./l type=link link=a\075b`},
		{tree.Entry{Path: "d", Type: tar.TypeChar, Mode: 0o600, Major: 1, Minor: 3}, "./d type=char mode=0600 device=linux,1,3"},
		{tree.Entry{Path: "f", Type: tar.TypeFifo, Mode: 0o644}, "./f type=fifo"},
		{tree.Entry{Path: "x", Type: tar.TypeReg, Mode: 0o644, Xattrs: map[string][]byte{"b": {2}, "a": {1}}}, "./x size=0 xattr.a=01 xattr.b=02"},
	} {
		if got := mtree.Line(&c.entry); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

const golden = `# layer //a
#mtree
/set type=file uid=0 gid=0 mode=0644
./gone size=1 sha256=aaaaaaaaaaaa
./kept size=1 sha256=aaaaaaaaaaaa
./other size=1 sha256=aaaaaaaaaaaa
# layer //b
./kept size=2 sha256=bbbbbbbbbbbb
`

func TestDiff(t *testing.T) {
	if d, err := mtree.Diff(golden, golden); err != nil || len(d) > 0 {
		t.Errorf("the same differs: %v, %v", d, err)
	}
	actual := strings.NewReplacer("./gone size=1", "./new size=1", "./other size=1", "./other size=3").Replace(golden)
	differences, err := mtree.Diff(golden, actual)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range differences {
		got = append(got, d.String())
	}
	want := []string{
		"- ./gone size=1 sha256=aaaaaaaaaaaa",
		"+ ./new size=1 sha256=aaaaaaaaaaaa",
		"- ./other size=1 sha256=aaaaaaaaaaaa\n+ ./other size=3 sha256=aaaaaaaaaaaa",
	}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("differences %q\nwant %q", got, want)
	}
	for _, bad := range []string{"nonsense\n", "./a\n./a\n"} {
		if _, err := mtree.Diff(golden, bad); err == nil {
			t.Errorf("%q is taken for a listing", bad)
		}
	}
}

func TestBlur(t *testing.T) {
	got := mtree.Blur(golden, func(p string) bool { return p == "/kept" })
	want := strings.NewReplacer("./kept size=1 sha256=aaaaaaaaaaaa", "./kept", "./kept size=2 sha256=bbbbbbbbbbbb", "./kept").Replace(golden)
	if got != want {
		t.Errorf("got %s", got)
	}
}
