// Package upstream holds our programs against those that their upstreams' builds make of the same
// sources.
package upstream

import (
	"bytes"
	"encoding/csv"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var (
	programs repeated.Strings
	sizes    = flag.String("sizes", "", "the sizes that scripts/upstream-sizes has written")
)

func TestMain(m *testing.M) {
	flag.Var(&programs, "program", "NAME=FILE: a program of ours")
	flag.Parse()
	os.Exit(m.Run())
}

// tolerance is how far a size may be from that of upstream's build, in per cent. The lists of
// modules and the padding of sections differ; a wrong build tag or linker flag shows with 5 % and
// more.
const tolerance = 2

func TestSizes(t *testing.T) {
	f, err := os.Open(*sizes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.Comment = '\t', '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{}
	for _, row := range rows {
		if want[row[0]], err = strconv.ParseInt(row[1], 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if len(programs) == 0 {
		t.Fatal("no program is given")
	}
	for _, p := range programs {
		name, path, _ := strings.Cut(p, "=")
		t.Run(name, func(t *testing.T) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			upstream, ok := want[name]
			if !ok {
				t.Fatalf("%s does not know its size: run scripts/upstream-sizes", *sizes)
			}
			off := 100 * float64(info.Size()-upstream) / float64(upstream)
			t.Logf("%d bytes, upstream's build makes %d (%+.2f %%)", info.Size(), upstream, off)
			if off > tolerance || off < -tolerance {
				t.Errorf("%d bytes are %+.2f %% off the %d of upstream's build: compare tags and linker flags (docs/upstream-builds.md), or, after another version was locked, run scripts/upstream-sizes", info.Size(), off, upstream)
			}
			delete(want, name)
		})
	}
	for name := range want {
		t.Errorf("%s has the size of %s, which is not looked at", *sizes, name)
	}
}

// TestNoTrace: golang.org/x/net/trace brings text/template, which looks methods up by name, and so
// keeps the linker from leaving out any method (https://github.com/grpc/grpc-go/issues/6904).
// Upstream's tag grpcnotrace keeps it out of Kubernetes' programs; CoreDNS, built with the tag,
// too, has it by another way.
func TestNoTrace(t *testing.T) {
	kubernetes := 0
	for _, p := range programs {
		name, path, _ := strings.Cut(p, "=")
		if !strings.HasPrefix(name, "kube") && name != "e2e.test" {
			continue
		}
		kubernetes++
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// The table of functions stays in a program that is stripped of its symbols.
		if bytes.Contains(data, []byte("golang.org/x/net/trace.")) {
			t.Errorf("%s has golang.org/x/net/trace in it", name)
		}
	}
	if kubernetes != 8 {
		t.Errorf("%d of Kubernetes' programs were looked at, want 8", kubernetes)
	}
}
