// Package dockertest is a Docker engine for unit tests: it has containers, images and volumes in
// memory, and a docker command that works on them.
//
// The test binary plays the command itself: New returns a docker.Client whose Path is the running
// test binary, and Main, called from TestMain, passes the command on to the engine in the test's
// own process when the binary was started that way. So the code under test starts real processes
// and reads real pipes, and a test looks at what they have done.
package dockertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// variable names the engine's socket to the docker command.
const variable = "DOCKERTEST_SOCKET"

// Reply is an answer that the engine gives, whatever it has, to the docker commands that start with
// Args.
type Reply struct {
	Args   string // the beginning of the arguments, joined with single spaces
	Stdout string
	Stderr string
	Exit   int
	// Hang keeps the command from ending until it is killed.
	Hang bool
	// Times is how often the reply holds; 0 is always.
	Times int
}

// New starts an engine, and returns it with a client of it. To a command that one of the replies
// fits it gives the first that does, instead of doing what the command says.
func New(t testing.TB, replies ...Reply) (*docker.Client, *Engine) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A socket's path has 107 bytes at most; t.TempDir has the test's name in it.
	dir, err := os.MkdirTemp("", "docker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "engine")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(replies)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		e.killAll()
		served.Wait()
	})
	return &docker.Client{Path: self, Env: append(os.Environ(), variable+"="+socket)}, e
}

// frame is a piece of what goes over the socket after the arguments: standard input to the engine,
// the rest back.
type frame struct {
	In, Out, Err []byte `json:",omitempty"`
	EOF          bool   `json:",omitempty"` // of the input
	Exit         *int   `json:",omitempty"`
}

// Main is for TestMain: it plays the docker command if this process was started as one, and runs
// the tests otherwise.
func Main(m *testing.M) {
	socket := os.Getenv(variable)
	if socket == "" {
		os.Exit(m.Run())
	}
	status, err := relay(socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "dockertest:", err)
		status = 64
	}
	os.Exit(status)
}

func relay(socket string) (int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	send := json.NewEncoder(conn)
	if err := send.Encode(os.Args[1:]); err != nil {
		return 0, err
	}
	go func() {
		io.Copy(writer(func(p []byte) error { return send.Encode(frame{In: p}) }), os.Stdin)
		send.Encode(frame{EOF: true})
	}()
	for receive := json.NewDecoder(conn); ; {
		var f frame
		if err := receive.Decode(&f); err != nil {
			return 0, err
		}
		os.Stdout.Write(f.Out)
		os.Stderr.Write(f.Err)
		if f.Exit != nil {
			return *f.Exit, nil
		}
	}
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// serve runs one command.
func (e *Engine) serve(conn net.Conn) {
	defer conn.Close()
	receive := json.NewDecoder(conn)
	var args []string
	if err := receive.Decode(&args); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stdin, in := io.Pipe()
	defer stdin.Close()
	go func() {
		// Nothing comes any more when the command has been killed.
		defer cancel()
		for {
			var f frame
			if err := receive.Decode(&f); err != nil {
				in.CloseWithError(err)
				return
			}
			if f.EOF {
				in.Close()
			} else {
				in.Write(f.In)
			}
		}
	}()
	if args[0] != "exec" && args[0] != "cp" {
		stdin.Close() // nothing waits for it to be read
	}
	var mu sync.Mutex
	send := json.NewEncoder(conn)
	pass := func(f func(p []byte) frame) io.Writer {
		return writer(func(p []byte) error {
			mu.Lock()
			defer mu.Unlock()
			return send.Encode(f(p))
		})
	}
	status := e.run(&command{
		ctx: ctx, args: args, in: stdin,
		out: pass(func(p []byte) frame { return frame{Out: p} }),
		err: pass(func(p []byte) frame { return frame{Err: p} }),
	})
	mu.Lock()
	defer mu.Unlock()
	send.Encode(frame{Exit: &status})
}

// reply returns the reply for a command, which it counts, or nil.
func (e *Engine) reply(args string) *Reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, args)
	for i := range e.replies {
		r := &e.replies[i]
		if !strings.HasPrefix(args, r.Args) || r.Times > 0 && e.used[i] >= r.Times {
			continue
		}
		e.used[i]++
		return r
	}
	return nil
}

// Calls returns the arguments of each command so far, joined with single spaces.
func (e *Engine) Calls() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.calls...)
}

// Called reports whether there was a command that starts with args.
func (e *Engine) Called(args string) bool {
	for _, c := range e.Calls() {
		if strings.HasPrefix(c, args) {
			return true
		}
	}
	return false
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
