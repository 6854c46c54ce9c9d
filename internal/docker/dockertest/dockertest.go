// Package dockertest stands in for the docker command in unit tests.
//
// The test binary plays the command itself: New returns a docker.Client whose Path is
// the running test binary, and Main, called from TestMain, answers as scripted when
// the binary was started that way. So the code under test starts real processes and
// reads real pipes, without an engine.
package dockertest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

const variable = "DOCKERTEST_FOLDER"

// Reply is the answer to the docker commands that start with Args.
type Reply struct {
	Args   string // the beginning of the arguments, joined with single spaces
	Stdout string
	Stderr string
	Exit   int
	// Hang keeps the command from ending until it is killed.
	Hang bool
	// Until keeps the command from answering until a command has been run that starts
	// with this.
	Until string
	// Times is how often the reply holds before the next that fits takes over; 0 is
	// always.
	Times int
}

// Fake is a scripted docker command.
type Fake struct {
	t      testing.TB
	folder string
}

// New makes a docker command that gives, to each call, the first of the replies that fits.
// A call that no reply fits fails with status 64.
func New(t testing.TB, replies ...Reply) (*docker.Client, *Fake) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{t: t, folder: t.TempDir()}
	script, err := json.Marshal(replies)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.folder, "script.json"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	return &docker.Client{Path: self, Env: append(os.Environ(), variable+"="+f.folder)}, f
}

// Calls returns the arguments of each call so far, joined with single spaces.
func (f *Fake) Calls() []string {
	f.t.Helper()
	calls, err := readCalls(f.folder)
	if err != nil {
		f.t.Fatal(err)
	}
	var args []string
	for _, c := range calls {
		args = append(args, c.Args)
	}
	return args
}

// Called says whether there was a call that starts with args.
func (f *Fake) Called(args string) bool {
	f.t.Helper()
	for _, c := range f.Calls() {
		if strings.HasPrefix(c, args) {
			return true
		}
	}
	return false
}

type call struct {
	Reply int // index of the reply it got
	Args  string
}

func readCalls(folder string) ([]call, error) {
	data, err := os.ReadFile(filepath.Join(folder, "calls"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var calls []call
	for line := range strings.Lines(string(data)) {
		var c call
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return calls, nil
}

// Main is for TestMain: it plays the docker command if this process was started as
// one, and runs the tests otherwise.
func Main(m *testing.M) {
	folder := os.Getenv(variable)
	if folder == "" {
		os.Exit(m.Run())
	}
	status, err := play(folder, strings.Join(os.Args[1:], " "))
	if err != nil {
		fmt.Fprintln(os.Stderr, "dockertest:", err)
		status = 64
	}
	os.Exit(status)
}

func play(folder, args string) (int, error) {
	data, err := os.ReadFile(filepath.Join(folder, "script.json"))
	if err != nil {
		return 0, err
	}
	var replies []Reply
	if err := json.Unmarshal(data, &replies); err != nil {
		return 0, err
	}
	calls, err := readCalls(folder)
	if err != nil {
		return 0, err
	}
	used := map[int]int{}
	for _, c := range calls {
		used[c.Reply]++
	}
	for i, r := range replies {
		if !strings.HasPrefix(args, r.Args) || r.Times > 0 && used[i] >= r.Times {
			continue
		}
		if err := record(folder, call{Reply: i, Args: args}); err != nil {
			return 0, err
		}
		return answer(folder, r)
	}
	if err := record(folder, call{Reply: -1, Args: args}); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("no reply to %q", args)
}

func record(folder string, c call) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(folder, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := log.Write(append(line, '\n')); err != nil {
		return err
	}
	return log.Close()
}

func answer(folder string, r Reply) (int, error) {
	for r.Until != "" {
		calls, err := readCalls(folder)
		if err != nil {
			return 0, err
		}
		for _, c := range calls {
			if strings.HasPrefix(c.Args, r.Until) {
				r.Until = ""
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := io.WriteString(os.Stdout, r.Stdout); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(os.Stderr, r.Stderr); err != nil {
		return 0, err
	}
	if r.Hang {
		time.Sleep(time.Hour)
	}
	return r.Exit, nil
}

// CheckError wants an error whose text has all of want, or none without want.
func CheckError(t testing.TB, err error, want ...string) {
	t.Helper()
	if len(want) == 0 {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return
	}
	if err == nil {
		t.Errorf("no error, want one that says %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
