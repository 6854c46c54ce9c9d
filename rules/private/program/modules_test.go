// Package program tests that each program is made of exactly the modules that its upstream locked.
package program

import (
	"debug/buildinfo"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

var programs, locks repeated.Strings

func TestMain(m *testing.M) {
	flag.Var(&programs, "program", "program to check; repeat")
	flag.Var(&locks, "lock", "go.mod of an upstream; repeat")
	flag.Parse()
	os.Exit(m.Run())
}

// lock has what upstream's go.mod says.
type lock struct {
	module   string
	versions map[string]string
	// local are the modules that upstream takes from its own repository.
	local map[string]bool
}

func parse(text string) (*lock, error) {
	l := &lock{versions: map[string]string{}, local: map[string]bool{}}
	replaced := map[string]string{}
	block := ""
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		switch words[0] {
		case "module":
			l.module = words[1]
		case "require":
			l.versions[words[1]] = words[2]
		case "replace":
			from, to, ok := strings.Cut(strings.Join(words[1:], " "), " => ")
			if !ok {
				return nil, fmt.Errorf("not understood: %q", line)
			}
			module, _, _ := strings.Cut(from, " ")
			if strings.HasPrefix(to, ".") {
				l.local[module] = true
			} else if _, version, ok := strings.Cut(to, " "); ok {
				replaced[module] = version
			}
		}
	}
	for module, version := range replaced {
		l.versions[module] = version
	}
	if l.module == "" {
		return nil, fmt.Errorf("no module line")
	}
	return l, nil
}

// check compares one module of a program with the lock.
func (l *lock) check(mainVersion, module, version string) error {
	if l.local[module] {
		// Published from the same commit, with the same version, or, as Kubernetes does, with 0 for
		// its major version.
		_, rest, _ := strings.Cut(mainVersion, ".")
		if version != mainVersion && version != "v0."+rest {
			return fmt.Errorf("%s is %s; upstream %s builds it from its own tree", module, version, mainVersion)
		}
		return nil
	}
	want, ok := l.versions[module]
	if !ok {
		return fmt.Errorf("%s %s is not in upstream's go.mod", module, version)
	}
	if version != want {
		return fmt.Errorf("%s is %s, upstream has %s", module, version, want)
	}
	return nil
}

func TestModules(t *testing.T) {
	byModule := map[string]*lock{}
	for _, name := range locks {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		l, err := parse(string(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		byModule[l.module] = l
	}
	seen := map[string]bool{}
	for _, program := range programs {
		t.Run(filepath.Base(program), func(t *testing.T) {
			info, err := buildinfo.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			l := byModule[info.Main.Path]
			if l == nil {
				// In another module's universe, as kube-log-runner is in that of Kubernetes.
				for _, candidate := range byModule {
					if candidate.local[info.Main.Path] {
						l = candidate
					}
				}
			}
			if l == nil {
				t.Fatalf("main module is %q, whose go.mod is not given", info.Main.Path)
			}
			seen[l.module] = true
			if !strings.HasPrefix(info.Path, info.Main.Path) {
				t.Errorf("path %s is not in module %s", info.Path, info.Main.Path)
			}
			for _, dep := range info.Deps {
				if l.module != info.Main.Path && l.local[dep.Path] {
					if dep.Version != info.Main.Version {
						t.Errorf("%s is %s, the program %s", dep.Path, dep.Version, info.Main.Version)
					}
					continue
				}
				if err := l.check(info.Main.Version, dep.Path, dep.Version); err != nil {
					t.Error(err)
				}
			}
			t.Logf("%s %s: %d modules, %s", info.Main.Path, info.Main.Version, len(info.Deps), info.GoVersion)
		})
	}
	for module := range byModule {
		if !seen[module] {
			t.Errorf("no program of %s was checked", module)
		}
	}
}

func TestParse(t *testing.T) {
	l, err := parse(`module example.org/m

go 1.26

require example.org/single v1.0.0

require (
	example.org/a v1.2.3 // indirect
	example.org/b v0.0.0
	example.org/c v1.0.0
)

replace (
	example.org/b => ./staging/b
	example.org/c => example.org/fork v1.0.1
)
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		module, version string
		ok              bool
	}{
		{"example.org/single", "v1.0.0", true},
		{"example.org/a", "v1.2.3", true},
		{"example.org/a", "v1.2.4", false},
		{"example.org/b", "v0.37.2", true},
		{"example.org/b", "v1.37.2", true},
		{"example.org/b", "v0.37.1", false},
		{"example.org/c", "v1.0.1", true},
		{"example.org/c", "v1.0.0", false},
		{"example.org/d", "v1.0.0", false},
	} {
		if err := l.check("v1.37.2", c.module, c.version); (err == nil) != c.ok {
			t.Errorf("%s %s: %v", c.module, c.version, err)
		}
	}
}
