// Package debian resolves a list of Debian packages with apt itself, in a private apt root, and
// writes the lock: each package's version, pool path and SHA-256.
//
// A suite comes with its updates: SUITE-updates, and SUITE-security from Debian's security archive,
// as Debian's own machines have them. Where a mirror does not have these, the lock is made without,
// and a message says so.
//
// The list has one package a line; `#` starts a comment. A line `!NAME` says that another part of
// the build provides NAME, so that apt neither selects it nor what only it needs.
package debian

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const architecture = "amd64"

// securityArchive is the archive of security updates, which mirrors keep apart from Debian's main
// one.
const securityArchive = "debian-security"

// lockFile is the content of a NAME.lock.json.
type lockFile struct {
	// Suite is the Debian suite that the packages come from.
	Suite string `json:"suite"`
	// Updates are the suites of updates that were resolved together with Suite.
	Updates []string `json:"updates,omitempty"`
	// Snapshot is the date of the newest of the suites' release files, as a snapshot archive writes
	// it (20060102T150405Z).
	Snapshot string   `json:"snapshot"`
	Packages []locked `json:"packages"`
}

type locked struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	// Archive is debian-security for a package from there, and empty for one from Debian's main
	// archive.
	Archive string `json:"archive,omitempty"`
	// Path is relative to the archive's root: pool/main/…, or pool/updates/main/… in
	// debian-security.
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Options say what is locked.
type Options struct {
	// Packages is the file with the list, Output the lock to write.
	Packages, Output string
	// Suite may be empty: that of the present lock.
	Suite string
	// Main and Security are the roots of Debian's archives: URLs, perhaps with a user and password.
	// Security may be empty: not known.
	Main, Security string
	// Log takes messages to the user.
	Log io.Writer

	// trust is the option of each apt source that says whose signature its release file must have:
	// a key of this machine's, none that a mirror brings, when empty.
	trust string
}

// Lock resolves the packages and writes the lock. It needs apt-get.
func Lock(ctx context.Context, o Options) error {
	if o.trust == "" {
		o.trust = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
	}
	if o.Suite == "" {
		data, err := os.ReadFile(o.Output)
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s does not exist yet: name a suite", o.Output)
		} else if err != nil {
			return err
		}
		var old lockFile
		if err := json.Unmarshal(data, &old); err != nil {
			return fmt.Errorf("reading %s: %w", o.Output, err)
		}
		o.Suite = old.Suite
	}
	wanted, provided, err := readList(o.Packages)
	if err != nil {
		return err
	}
	apt, err := newAPT(mirrors{main: o.Main, security: o.Security}, o.trust, provided)
	if err != nil {
		return err
	}
	defer os.RemoveAll(apt.root)
	updates, err := apt.update(ctx, o.Suite, o.Log)
	if err != nil {
		return err
	}
	lock := &lockFile{Suite: o.Suite, Updates: updates}
	if lock.Snapshot, err = apt.snapshot(1 + len(updates)); err != nil {
		return err
	}
	if lock.Packages, err = apt.resolve(ctx, wanted); err != nil {
		return err
	}
	data, err := json.MarshalIndent(lock, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.Output, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(o.Log, "%s: %d packages of %s, %s\n", o.Output, len(lock.Packages),
		strings.Join(append([]string{o.Suite}, updates...), " + "), lock.Snapshot)
	return nil
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

// mirrors are the roots of Debian's archives, URLs without a slash at the end, perhaps with a user
// and password.
type mirrors struct {
	main string
	// security may be empty: not known.
	security string
}

// apt is a private apt root: it shares nothing with the machine's own but the keyrings.
type apt struct {
	root    string
	mirrors mirrors
	trust   string
}

func newAPT(m mirrors, trust string, provided []string) (*apt, error) {
	root, err := os.MkdirTemp("", "debian-lock-")
	if err != nil {
		return nil, err
	}
	a := &apt{root: root, trust: trust}
	var logins string
	for _, mirror := range []struct {
		to   *string
		from string
	}{{&a.mirrors.main, m.main}, {&a.mirrors.security, m.security}} {
		var login string
		*mirror.to, login = splitLogin(mirror.from)
		logins += login
	}
	var status bytes.Buffer
	for _, name := range provided {
		fmt.Fprintf(&status, "Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: 999:0\nMaintainer: none\nDescription: provided by the build\n\n", name, architecture)
	}
	for path, content := range map[string]string{
		"var/lib/dpkg/status":              status.String(),
		"etc/apt/apt.conf.d/x":             "",
		"etc/apt/auth.conf":                logins,
		"etc/apt/preferences.d/x":          "",
		"var/lib/apt/lists/partial/x":      "",
		"var/cache/apt/archives/partial/x": "",
	} {
		if err := a.write(path, content); err != nil {
			return nil, errors.Join(err, os.RemoveAll(root))
		}
	}
	return a, nil
}

// splitLogin takes user and password out of a mirror's URL, so that they are in no message and in
// no program's arguments, and returns a line of apt's auth.conf with them.
func splitLogin(mirror string) (bare, login string) {
	u, err := url.Parse(mirror)
	if err != nil || u.User == nil {
		return mirror, ""
	}
	password, _ := u.User.Password()
	login = u.User.Username()
	u.User = nil
	// A machine without a scheme is one of https alone.
	return u.String(), fmt.Sprintf("machine %s login %s password %s\n", u, login, password)
}

func (a *apt) write(path, content string) error {
	file := filepath.Join(a.root, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	// The directory is for its owner alone.
	return os.WriteFile(file, []byte(content), 0o644)
}

// aptError is a command of apt's that failed.
type aptError struct {
	command        string
	stdout, stderr string
	err            error
}

func (e *aptError) Error() string {
	return fmt.Sprintf("running %s: %v\n%s%s", e.command, e.err, e.stdout, e.stderr)
}

func (a *apt) run(ctx context.Context, name string, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, name, append([]string{
		"-o", "Dir=" + a.root,
		"-o", "Dir::State::status=" + filepath.Join(a.root, "var/lib/dpkg/status"),
		"-o", "APT::Architecture=" + architecture,
		"-o", "APT::Architectures=" + architecture,
		"-o", "APT::Install-Recommends=false",
		"-o", "APT::Sandbox::User=root",
		// A mirror may itself be a snapshot; the lock holds hashes, so age is no danger.
		"-o", "Acquire::Check-Valid-Until=false",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::http::Timeout=30",
		// What cannot be fetched is an error, not a warning: a lock must not depend on the
		// network's mood.
		"-o", "APT::Update::Error-Mode=any",
		"-o", "Acquire::ForceHash=SHA256",
	}, args...)...)
	// apt's messages are read below.
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", &aptError{command: strings.Join(append([]string{name}, args...), " "), stdout: out.String(), stderr: errs.String(), err: err}
	}
	return out.String(), nil
}

// update fetches the package lists of a suite and of the updates to it, and returns the suites of
// updates that there are.
func (a *apt) update(ctx context.Context, suite string, log io.Writer) (updates []string, err error) {
	type source struct{ mirror, suite string }
	var optional []source
	switch suite {
	case "unstable", "sid", "experimental":
		// They are updated themselves.
	default:
		optional = append(optional, source{a.mirrors.main, suite + "-updates"})
		if a.mirrors.security != "" {
			optional = append(optional, source{a.mirrors.security, suite + "-security"})
		} else {
			fmt.Fprintf(log, "no security archive is known next to %s (DEBIAN_SECURITY_MIRROR can name one): locking without security updates\n", a.mirrors.main)
		}
	}
	sources := []source{{a.mirrors.main, suite}}
	for _, s := range optional {
		there, err := a.exists(ctx, s.mirror+"/dists/"+s.suite+"/Release")
		if err != nil {
			return nil, fmt.Errorf("looking for suite %s: %w", s.suite, err)
		}
		if there {
			sources = append(sources, s)
			updates = append(updates, s.suite)
		} else {
			fmt.Fprintf(log, "%s has no suite %s: locking without it\n", s.mirror, s.suite)
		}
	}
	var list strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&list, "deb [%s] %s %s main\n", a.trust, s.mirror, s.suite)
	}
	if err := a.write("etc/apt/sources.list", list.String()); err != nil {
		return nil, err
	}
	_, err = a.run(ctx, "apt-get", "update", "-q")
	return updates, err
}

// exists reports whether a mirror has a file, and fails if that cannot be found out: a mirror that
// is down is no reason to do without security updates.
func (a *apt) exists(ctx context.Context, uri string) (bool, error) {
	_, err := a.run(ctx, "/usr/lib/apt/apt-helper", "download-file", uri, filepath.Join(a.root, "probe"))
	var failed *aptError
	if errors.As(err, &failed) && notThere.MatchString(failed.stderr) {
		return false, nil
	}
	return err == nil, err
}

// notThere is the message of apt's transports (http, https; file) for a missing file.
var notThere = regexp.MustCompile(`(?m)^E: Failed to fetch \S+ +(404 |File not found)`)

// snapshot returns the date of the newest of the release files, as a snapshot archive writes it.
func (a *apt) snapshot(count int) (string, error) {
	files, err := filepath.Glob(filepath.Join(a.root, "var/lib/apt/lists/*Release"))
	if err != nil {
		return "", err
	}
	if len(files) != count {
		return "", fmt.Errorf("expected %d release files, found %q", count, files)
	}
	var newest time.Time
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		date, err := releaseDate(string(data))
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", filepath.Base(file), err)
		}
		if date.After(newest) {
			newest = date
		}
	}
	return newest.UTC().Format("20060102T150405Z"), nil
}

func releaseDate(release string) (time.Time, error) {
	for line := range strings.Lines(release) {
		if date, ok := strings.CutPrefix(line, "Date: "); ok {
			return time.Parse("Mon, 2 Jan 2006 15:04:05 MST", strings.TrimSpace(date))
		}
	}
	return time.Time{}, errors.New("it has no date")
}

// resolve returns what apt would install, from where, in the order of names.
func (a *apt) resolve(ctx context.Context, wanted []string) ([]locked, error) {
	plan, err := a.run(ctx, "apt-get", append([]string{"install", "--print-uris", "--yes", "-qq"}, wanted...)...)
	if err != nil {
		return nil, err
	}
	packages, err := parseURIs(plan, a.mirrors)
	if err != nil {
		return nil, err
	}
	if len(packages) == 0 {
		return nil, errors.New("apt selected no package")
	}
	sort.Slice(packages, func(i, j int) bool { return packages[i].Name < packages[j].Name })
	return packages, nil
}

// parseURIs reads the output of `apt-get install --print-uris`. Each line is one package:
//
//	'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HASH
//
// The URI is escaped, and so are the file name's colons.
func parseURIs(plan string, m mirrors) ([]locked, error) {
	var packages []locked
	for line := range strings.Lines(plan) {
		words := strings.Fields(line)
		if len(words) != 4 {
			return nil, fmt.Errorf("apt names a package in a form that is not known: %q", line)
		}
		var p locked
		uri := strings.Trim(words[0], "'")
		path, ok := strings.CutPrefix(uri, m.main+"/")
		if !ok && m.security != "" {
			p.Archive = securityArchive
			path, ok = strings.CutPrefix(uri, m.security+"/")
		}
		if !ok {
			return nil, fmt.Errorf("apt takes a package from elsewhere than its mirrors: %q", uri)
		}
		var err error
		if p.Path, err = url.PathUnescape(path); err != nil {
			return nil, fmt.Errorf("apt names a package by %q: %w", uri, err)
		}
		if !strings.HasPrefix(p.Path, "pool/") {
			return nil, fmt.Errorf("apt takes a package from outside its mirror's pool: %q", uri)
		}
		file, err := url.PathUnescape(words[1])
		if err != nil {
			return nil, fmt.Errorf("apt names a package by %q: %w", words[1], err)
		}
		parts := strings.Split(strings.TrimSuffix(file, ".deb"), "_")
		if len(parts) != 3 || slices.Contains(parts, "") || !strings.HasSuffix(file, ".deb") {
			return nil, fmt.Errorf("apt names a package by %q, not as NAME_VERSION_ARCHITECTURE.deb", words[1])
		}
		p.Name, p.Version, p.Architecture = parts[0], parts[1], parts[2]
		if p.Size, err = strconv.ParseInt(words[2], 10, 64); err != nil || p.Size <= 0 {
			return nil, fmt.Errorf("apt gives %s the size %q", p.Name, words[2])
		}
		if p.SHA256, ok = strings.CutPrefix(words[3], "SHA256:"); !ok || !sha256Form.MatchString(p.SHA256) {
			return nil, fmt.Errorf("apt gives %s the hash %q, not a SHA-256", p.Name, words[3])
		}
		packages = append(packages, p)
	}
	return packages, nil
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)
