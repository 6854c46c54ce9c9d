package docker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// MinVersion is the oldest Docker that can run a cluster: the first that takes layers compressed
// with zstd (https://github.com/moby/moby/pull/41759), and runs privileged containers where the
// machine withholds a capability from it (https://github.com/moby/moby/pull/42933). MinAPI is its
// API's version. docs/quick-start.md and scripts/lib/engine.sh say the same; TestMinVersion
// compares them.
const (
	MinVersion = "23"
	MinAPI     = "1.42"
)

// ErrNoCommand means that there is no docker command on PATH.
var ErrNoCommand = errors.New("no docker command on PATH: install Docker " + MinVersion + " or newer (https://docs.docker.com/engine/install/)")

// Client runs docker commands.
type Client struct {
	// Path is the docker command to run.
	Path string
	// Env is the environment of the commands; nil means the caller's own.
	Env []string

	detached bool
}

// Find returns a Client for the docker command on PATH.
func Find() (*Client, error) {
	path, err := exec.LookPath("docker")
	if err != nil {
		return nil, ErrNoCommand
	}
	return &Client{Path: path}, nil
}

// Detached returns a Client whose commands do not share the terminal's process
// group, so that Ctrl-C does not reach them. It is for cleaning up after a Ctrl-C:
// a second one must not stop the cleaning half way.
func (c *Client) Detached() *Client {
	d := *c
	d.detached = true
	return &d
}

// Error is a docker command that failed.
type Error struct {
	// Purpose is what the command was for, as in "cannot PURPOSE".
	Purpose string
	// Args are the command's arguments.
	Args []string
	// Stderr is what the command wrote to its standard error.
	Stderr string
	// ExitCode is the command's exit status, or -1 if it did not end by itself.
	ExitCode int
	// Err is the reason as Go has it: an *exec.ExitError, a context's error, …
	Err error
}

func (e *Error) Error() string {
	reason := strings.TrimSpace(e.Stderr)
	switch {
	case reason == "":
		reason = e.Err.Error()
	case e.ExitCode < 0:
		// It was stopped, or could not even start: what it said before is second.
		reason = fmt.Sprintf("%v (%s)", e.Err, reason)
	}
	return fmt.Sprintf("cannot %s: %s", e.Purpose, reason)
}

func (e *Error) Unwrap() error { return e.Err }

// ExplainDiskFull adds what to do to an error that means that Docker's disk is full, and returns
// others as they are.
func ExplainDiskFull(err error) error {
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "no space left on device") {
		return fmt.Errorf("%w\nDocker's disk is full: remove what you do not need (`docker system df` shows what there is)", err)
	}
	return err
}

// Streams are a command's standard input, output and error.
// A nil member is an empty input or a discarded output; standard error is
// also kept for the Error.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// maxStderr bounds how much of a command's standard error an Error keeps: its end,
// where the reason is.
const maxStderr = 16 << 10

// Stream runs one docker command with the given streams until it ends or ctx does.
// The purpose completes the sentence "cannot …".
func (c *Client) Stream(ctx context.Context, s Streams, purpose string, args ...string) error {
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Env = c.Env
	if c.detached {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	// A plugin (docker compose, an ssh connection helper) may keep the pipes open
	// after the command itself is gone.
	cmd.WaitDelay = 2 * time.Second
	cmd.Stdout = s.Out
	stderr := &tail{max: maxStderr}
	cmd.Stderr = stderr
	if s.Err != nil {
		cmd.Stderr = io.MultiWriter(stderr, s.Err)
	}
	err := run(cmd, s.In)
	if err == nil {
		return nil
	}
	e := &Error{Purpose: purpose, Args: args, Stderr: stderr.String(), ExitCode: -1, Err: err}
	if cmd.ProcessState != nil {
		e.ExitCode = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil {
		e.Err = context.Cause(ctx)
	} else if errors.Is(err, os.ErrNotExist) {
		e.Err = ErrNoCommand
	}
	return e
}

// run runs a command until it ends. Package exec by itself would also wait for the end of the input,
// or for the next that comes of it, if it is no file.
func run(cmd *exec.Cmd, in io.Reader) error {
	if _, file := in.(*os.File); file || in == nil {
		if file {
			cmd.Stdin = in
		}
		return cmd.Run()
	}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(pipe, in)
		// A command may end before it has read all, and says by itself whether it needed it.
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, os.ErrClosed) {
			err = nil
		}
		copied <- err
		pipe.Close()
	}()
	err = cmd.Wait()
	select {
	case failed := <-copied:
		return cmp.Or(err, failed)
	default:
		return err
	}
}

// Output runs one docker command and returns what it writes to standard output.
func (c *Client) Output(ctx context.Context, purpose string, args ...string) ([]byte, error) {
	var out bytes.Buffer
	if err := c.Stream(ctx, Streams{Out: &out}, purpose, args...); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Do runs one docker command for its effect.
func (c *Client) Do(ctx context.Context, purpose string, args ...string) error {
	return c.Stream(ctx, Streams{}, purpose, args...)
}

// JSON runs one docker command whose output is a single JSON value and decodes it.
func (c *Client) JSON(ctx context.Context, into any, purpose string, args ...string) error {
	out, err := c.Output(ctx, purpose, args...)
	if err != nil {
		return err
	}
	if err := decode(out, into); err != nil {
		return fmt.Errorf("cannot %s: docker %s: %w", purpose, strings.Join(args, " "), err)
	}
	return nil
}

// decode reads exactly one JSON value.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("unexpected answer %.200q: %w", data, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("unexpected answer %.200q: more than one JSON value", data)
	}
	return nil
}

// tail is a writer that keeps the end of what was written to it.
type tail struct {
	max  int
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.max; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.data) }
