// Package control is how programs talk to the runner of a cluster: requests and events as JSON, over the runner's socket in the
// top-level container, or over the standard streams of `runner control`, which `docker exec` starts.
//
// A caller sends one Request and gets Events until one is the last. One that goes away before takes its request back: what has
// been begun is undone where that is possible.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The verbs of a Request.
const (
	Add     = "node add"
	Remove  = "node remove"
	Restart = "node restart"
	Stop    = "node stop"
	Start   = "node start"
	List    = "node list"
	Scale   = "scale"
	Pause   = "pause"
	Unpause = "unpause"
	Wait    = "wait"
	Status  = "status"
)

// Request says what to do.
type Request struct {
	Verb string `json:"verb"`
	// Nodes are the names of nodes.
	Nodes []string `json:"nodes,omitempty"`
	// Role, Count, Labels (KEY=VALUE), Taints (KEY=VALUE:EFFECT) and File describe nodes to add. What the file says holds where
	// nothing else is said.
	Role   string   `json:"role,omitempty"`
	Count  int      `json:"count,omitempty"`
	Labels []string `json:"labels,omitempty"`
	Taints []string `json:"taints,omitempty"`
	File   *File    `json:"file,omitempty"`
	// Workers is how many workers Scale leads to.
	Workers int `json:"workers,omitempty"`
	// Force is for Remove: without draining.
	Force bool `json:"force,omitempty"`
	// Timeout bounds the request, in nanoseconds; 0 means the verb's own limit.
	Timeout time.Duration `json:"timeout,omitempty"`
	// For are the conditions that Wait waits for.
	For []string `json:"for,omitempty"`
	// Output is the form of what Status and List print: text or json.
	Output string `json:"output,omitempty"`
}

// File is a file of the caller's.
type File struct {
	// Name is the file's name in errors.
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Event is something that happened while a request was carried out.
type Event struct {
	// Log is one line of progress or more, for people.
	Log string `json:"log,omitempty"`
	// Output is part of the result.
	Output string `json:"output,omitempty"`
	// Done reports that this is the last event. With an Error the request has failed, and Usage says that the request was wrong:
	// nothing has been begun.
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
	Usage bool   `json:"usage,omitempty"`
}

// Error is a request that failed.
type Error struct {
	Text string
	// Usage reports whether the request itself was wrong.
	Usage bool
}

func (e *Error) Error() string { return e.Text }

// Usage returns an error for a request that is wrong.
func Usage(format string, args ...any) error {
	return &Error{Text: fmt.Sprintf(format, args...), Usage: true}
}

// Last returns the last event of a request that led to err, which may be nil.
func Last(err error) Event {
	last := Event{Done: true}
	if err != nil {
		last.Error = err.Error()
		var e *Error
		last.Usage = errors.As(err, &e) && e.Usage
	}
	return last
}

// Receive calls emit for each event but the last, and returns the error that the last one has, an *Error.
func Receive(r io.Reader, emit func(Event)) error {
	for events := json.NewDecoder(r); ; {
		var e Event
		switch err := events.Decode(&e); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("the cluster's runner has ended in the middle of it: `docker logs` shows why; `status` shows what there is now")
		case err != nil:
			return fmt.Errorf("reading what the cluster's runner does: %w", err)
		case !e.Done:
			emit(e)
		case e.Error != "":
			return &Error{Text: e.Error, Usage: e.Usage}
		default:
			return nil
		}
	}
}

// ErrNotListening means that there is no runner that takes requests.
var ErrNotListening = errors.New("the cluster's runner takes no requests")

// Call sends a request to the runner's socket, and calls emit for each event but the last. It takes the request back when ctx
// ends, and returns when what had been begun is undone.
func Call(ctx context.Context, socket string, r Request, emit func(Event)) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotListening
	}
	if err != nil {
		return fmt.Errorf("asking the cluster's runner: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.(*net.UnixConn).CloseWrite() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return fmt.Errorf("asking the cluster's runner: %w", err)
	}
	err = Receive(conn, emit)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Handler carries out a request. The context ends when the caller goes away.
type Handler func(ctx context.Context, r Request, emit func(Event)) error

// Listen listens on a socket that is for root alone, in a directory of its own.
func Listen(ctx context.Context, socket string) (net.Listener, error) {
	// Until the socket itself is for its owner alone, the directory is.
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listening for requests: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Serve carries out requests until the listener is closed.
func Serve(ctx context.Context, l net.Listener, handle Handler) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go Answer(ctx, conn, conn, handle)
	}
}

// Answer reads one request from a caller and carries it out. The end of what the caller sends takes the request back. If the
// streams can be closed they are.
func Answer(ctx context.Context, in io.ReadCloser, out io.WriteCloser, handle Handler) {
	defer out.Close()
	defer in.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	events := json.NewEncoder(out)
	emit := func(e Event) { _ = events.Encode(e) } // to one that has gone
	var r Request
	requests := json.NewDecoder(in)
	if err := requests.Decode(&r); err != nil {
		emit(Last(Usage("reading the request: %v", err)))
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel(errors.New("the caller has gone"))
	}()
	emit(Last(handle(ctx, r, locked(emit))))
}

// locked returns a function that may be called by several goroutines at a time.
func locked(emit func(Event)) func(Event) {
	turn := make(chan struct{}, 1)
	return func(e Event) {
		turn <- struct{}{}
		defer func() { <-turn }()
		emit(e)
	}
}

// ParsePlace takes a place apart that is a path, or NODE:PATH; node is "" for the former.
func ParsePlace(text string) (node, path string) {
	if node, path, ok := strings.Cut(text, ":"); ok && node != "" && !strings.Contains(node, "/") {
		return node, path
	}
	return "", text
}
