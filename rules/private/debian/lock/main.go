// Command lock resolves a list of Debian packages with apt itself, in a private apt root, and writes the result: each
// package's version, pool path and SHA-256.
//
// The list has one package a line; `#` starts a comment. A line `!NAME` says that another part of the build provides
// NAME, so that apt neither selects it nor what only it needs.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

const architecture = "amd64"

// lockFile is the content of a NAME.lock.json.
type lockFile struct {
	// Suite is the Debian suite that the packages come from.
	Suite string `json:"suite"`
	// Snapshot is the date of the suite's release file, as a snapshot archive writes it (20060102T150405Z).
	Snapshot string   `json:"snapshot"`
	Packages []locked `json:"packages"`
}

type locked struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	// Path is relative to the archive's root: pool/main/….
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func main() {
	packages := flag.String("packages", "", "file that lists the wanted packages")
	suite := flag.String("suite", "", "Debian suite; default: the suite of the present lock")
	output := flag.String("output", "", "lock file to write")
	mirror := flag.String("mirror", "", "URL of the Debian archive to resolve against")
	flag.Parse()
	if err := run(*packages, *suite, *output, *mirror); err != nil {
		fmt.Fprintln(os.Stderr, "lock:", err)
		os.Exit(1)
	}
}

func run(packages, suite, output, mirror string) error {
	if packages == "" || output == "" || mirror == "" {
		return errors.New("-packages, -output and -mirror are needed: call it through scripts/lock debian")
	}
	if suite == "" {
		data, err := os.ReadFile(output)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s does not exist yet: name a suite", output)
		} else if err != nil {
			return err
		}
		var old lockFile
		if err := json.Unmarshal(data, &old); err != nil {
			return fmt.Errorf("reading %s: %w", output, err)
		}
		suite = old.Suite
	}
	wanted, provided, err := readList(packages)
	if err != nil {
		return err
	}
	apt, err := newAPT(mirror, suite, provided)
	if err != nil {
		return err
	}
	defer os.RemoveAll(apt.root)
	lock, err := apt.resolve(suite, wanted)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(lock, "", " ")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %d packages of %s, %s\n", output, len(lock.Packages), lock.Suite, lock.Snapshot)
	return os.WriteFile(output, append(data, '\n'), 0o644)
}

func readList(file string) (wanted, provided []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, _, _ := strings.Cut(sc.Text(), "#")
		name = strings.TrimSpace(name)
		if rest, ok := strings.CutPrefix(name, "!"); ok {
			provided = append(provided, rest)
		} else if name != "" {
			wanted = append(wanted, name)
		}
	}
	if len(wanted) == 0 {
		return nil, nil, fmt.Errorf("%s names no package", file)
	}
	return wanted, provided, nil
}

// apt is a private apt root: it shares nothing with the machine's own but the keyrings.
type apt struct{ root string }

func newAPT(mirror, suite string, provided []string) (*apt, error) {
	root, err := os.MkdirTemp("", "debian-lock-")
	if err != nil {
		return nil, err
	}
	a := &apt{root: root}
	var status bytes.Buffer
	for _, name := range provided {
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: 999:0\nMaintainer: none\nDescription: provided by the build\n\n", name, architecture)
	}
	for path, content := range map[string]string{
		"etc/apt/sources.list":             fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", mirror, suite),
		"var/lib/dpkg/status":              status.String(),
		"etc/apt/apt.conf.d/x":             "",
		"etc/apt/preferences.d/x":          "",
		"var/lib/apt/lists/partial/x":      "",
		"var/cache/apt/archives/partial/x": "",
	} {
		file := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	// apt drops privileges to _apt for fetching, which must be able to read the root.
	if err := os.Chmod(root, 0o755); err != nil {
		return nil, err
	}
	_, err = a.run("apt-get", "update", "-q")
	return a, err
}

func (a *apt) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, append([]string{
		"-o", "Dir=" + a.root,
		"-o", "Dir::State::status=" + filepath.Join(a.root, "var/lib/dpkg/status"),
		"-o", "APT::Architecture=" + architecture,
		"-o", "APT::Architectures=" + architecture,
		"-o", "APT::Install-Recommends=false",
		"-o", "APT::Sandbox::User=root",
		// A mirror may itself be a snapshot; the lock holds hashes, so age is no danger.
		"-o", "Acquire::Check-Valid-Until=false",
		"-o", "Acquire::Languages=none",
	}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

func (a *apt) resolve(suite string, wanted []string) (*lockFile, error) {
	lock := &lockFile{Suite: suite}
	releases, _ := filepath.Glob(filepath.Join(a.root, "var/lib/apt/lists/*_InRelease"))
	if len(releases) != 1 {
		return nil, fmt.Errorf("expected one release file of %s, found %d", suite, len(releases))
	}
	release, err := os.ReadFile(releases[0])
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(release), "\n") {
		if date, ok := strings.CutPrefix(line, "Date: "); ok {
			t, err := time.Parse("Mon, 02 Jan 2006 15:04:05 MST", date)
			if err != nil {
				return nil, fmt.Errorf("reading the date of %s: %w", suite, err)
			}
			lock.Snapshot = t.UTC().Format("20060102T150405Z")
			break
		}
	}

	plan, err := a.run("apt-get", append([]string{"install", "--simulate", "-q"}, wanted...)...)
	if err != nil {
		return nil, err
	}
	var selected []string
	for _, line := range strings.Split(plan, "\n") {
		// Inst NAME (VERSION ORIGIN [ARCH])
		if words := strings.Fields(line); len(words) > 2 && words[0] == "Inst" {
			selected = append(selected, words[1]+"="+strings.TrimPrefix(words[2], "("))
		}
	}
	if len(selected) == 0 {
		return nil, errors.New("apt selected no package")
	}
	records, err := a.run("apt-cache", append([]string{"show", "--no-all-versions"}, selected...)...)
	if err != nil {
		return nil, err
	}
	for _, record := range strings.Split(strings.TrimSpace(records), "\n\n") {
		fields := map[string]string{}
		for _, line := range strings.Split(record, "\n") {
			if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, " ") {
				fields[key] = value
			}
		}
		size, err := strconv.ParseInt(fields["Size"], 10, 64)
		if err != nil || fields["SHA256"] == "" || fields["Filename"] == "" {
			return nil, fmt.Errorf("apt's record of %s lacks a size, hash or path", fields["Package"])
		}
		lock.Packages = append(lock.Packages, locked{
			Name: fields["Package"], Version: fields["Version"], Architecture: fields["Architecture"],
			Path: fields["Filename"], Size: size, SHA256: fields["SHA256"],
		})
	}
	if len(lock.Packages) != len(selected) {
		return nil, fmt.Errorf("apt selected %d packages but described %d", len(selected), len(lock.Packages))
	}
	sort.Slice(lock.Packages, func(i, j int) bool { return lock.Packages[i].Name < lock.Packages[j].Name })
	return lock, nil
}
