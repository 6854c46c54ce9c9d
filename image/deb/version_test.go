package deb_test

import (
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/image/deb"
)

// versions are in their order.
var versions = []string{
	"0~~", "0~~a", "0~", "0", "0.1~rc1-1", "0.1-1", "0.1-1+b1", "0.1-1.1", "0.1a", "0.1+dfsg-1", "0.1.0", "0.10", "1.0-1~deb13u1",
	"1.0-1", "1.0-1+deb13u1", "1.0a-1", "9999999999999999999999", "10000000000000000000000", "1:0", "1:0.1-1", "2:0",
}

func TestCompareVersions(t *testing.T) {
	for i, a := range versions {
		for j, b := range versions {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := deb.CompareVersions(a, b); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.00"}, {"1.0-0", "1.0"}} {
		if c := deb.CompareVersions(same[0], same[1]); c != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d", same[0], same[1], c)
		}
	}
}

// TestCompareVersionsAsDpkg asks dpkg itself about neighbours.
func TestCompareVersionsAsDpkg(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("no dpkg here")
	}
	for i := range len(versions) - 1 {
		if err := exec.Command(dpkg, "--compare-versions", versions[i], "lt", versions[i+1]).Run(); err != nil {
			t.Errorf("dpkg does not find %s < %s (%v)", versions[i], versions[i+1], err)
		}
	}
}

func TestParseRelations(t *testing.T) {
	got, err := deb.ParseRelations("libc6 (>= 2.38), a:any | b (<<1),\n c ( = 1:2-3 ),")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]deb.Relation{{{"libc6", ">=", "2.38"}}, {{"a", "", ""}, {"b", "<<", "1"}}, {{"c", "=", "1:2-3"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"a b", "a (1)", "a (>= )", "a (>= 1", "a (>= 1) x", "| a", "a (<> 1)", "a (= one)", "a (= 1:)"} {
		if r, err := deb.ParseRelations(bad); err == nil {
			t.Errorf("%q is read as %v", bad, r)
		}
	}
}

func TestAdmits(t *testing.T) {
	for operator, want := range map[string]string{"<<": "100", "<=": "110", "=": "010", ">=": "011", ">>": "001", "": "111"} {
		r := deb.Relation{Name: "a", Operator: operator, Version: "2"}
		got := ""
		for _, v := range []string{"1", "2", "3"} {
			got += map[bool]string{true: "1", false: "0"}[r.Admits(v)]
		}
		if got != want {
			t.Errorf("%s admits %s, want %s", fmt.Sprint(r), got, want)
		}
	}
}

func FuzzParseRelations(f *testing.F) {
	f.Add("libc6 (>= 2.38), a:any | b (<< 1)")
	f.Add("0\f:")
	f.Fuzz(func(t *testing.T, field string) {
		groups, err := deb.ParseRelations(field)
		if err != nil {
			return
		}
		var printed []string
		for _, g := range groups {
			var alternatives []string
			for _, r := range g {
				alternatives = append(alternatives, r.String())
				if got, want := r.Admits(r.Version), !strings.Contains("<<>>", r.Operator) || r.Operator == ""; got != want {
					t.Errorf("%s admits its own version: %v", r, got)
				}
			}
			printed = append(printed, strings.Join(alternatives, " | "))
		}
		again, err := deb.ParseRelations(strings.Join(printed, ", "))
		if err != nil || !reflect.DeepEqual(again, groups) {
			t.Errorf("%q is printed as %q and read as %q, %v", field, printed, again, err)
		}
	})
}
