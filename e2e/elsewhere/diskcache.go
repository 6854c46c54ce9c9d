package elsewhere

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// DiskCache serves a part of one of Bazel's disk caches to another Bazel, as a remote cache that cannot be written to.
type DiskCache struct {
	// URL is for --remote_cache.
	URL string

	dir    string
	serve  func(outputs []string) bool
	server *http.Server

	mu       sync.Mutex
	answers  map[string]Answer // by action key
	rejected []string
}

// Answer is what a DiskCache said about an action.
type Answer int

const (
	// Unknown: the cache does not have it.
	Unknown Answer = iota
	// Withheld: the cache has it, and it is not for this build.
	Withheld
	// Served: the build got it.
	Served
)

// ServeDiskCache serves a disk cache at a free port of the loopback until it is closed. Of an action only the outputs'
// paths decide whether its result is served.
func ServeDiskCache(dir string, serve func(outputs []string) bool) (*DiskCache, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the disk cache: %w", err)
	}
	c := &DiskCache{dir: dir, serve: serve, answers: map[string]Answer{}, URL: "http://" + listener.Addr().String()}
	c.server = &http.Server{Handler: c}
	go c.server.Serve(listener)
	return c, nil
}

// Close ends the server.
func (c *DiskCache) Close() error { return c.server.Close() }

// Answers tells what was said about each action, by its key.
func (c *DiskCache) Answers() map[string]Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	answers := map[string]Answer{}
	for key, a := range c.answers {
		answers[key] = a
	}
	return answers
}

// Rejected lists requests that were not for reading.
func (c *DiskCache) Rejected() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.rejected...)
}

var cachePath = regexp.MustCompile(`^/(ac|cas)/([0-9a-f]{64})$`)

// ServeHTTP answers as Bazel's HTTP protocol for caches wants it: /ac/KEY is an action's result, /cas/HASH a content.
func (c *DiskCache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	match := cachePath.FindStringSubmatch(r.URL.Path)
	if match == nil || r.Method != http.MethodGet {
		c.mu.Lock()
		c.rejected = append(c.rejected, r.Method+" "+r.URL.Path)
		c.mu.Unlock()
		http.Error(w, "only to be read", http.StatusMethodNotAllowed)
		return
	}
	kind, key := match[1], match[2]
	path := filepath.Join(c.dir, kind, key[:2], key)
	if kind == "cas" {
		http.ServeFile(w, r, path)
		return
	}
	answer := Unknown
	result, err := os.ReadFile(path)
	if err == nil {
		answer = Withheld
		if outputs, err := resultOutputs(result); err == nil && c.serve(outputs) {
			answer = Served
		}
	}
	c.mu.Lock()
	c.answers[key] = answer
	c.mu.Unlock()
	if answer != Served {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(result)
}

// resultOutputs are the paths of the outputs in an ActionResult of the remote execution API.
func resultOutputs(result []byte) ([]string, error) {
	const outputFiles, outputDirectories, outputSymlinks, path = 2, 3, 12, 1
	var outputs []string
	err := fields(result, func(number protowire.Number, _ uint64, content []byte) error {
		switch number {
		case outputFiles, outputDirectories, outputSymlinks:
			return fields(content, func(number protowire.Number, _ uint64, content []byte) error {
				if number == path {
					outputs = append(outputs, string(content))
				}
				return nil
			})
		}
		return nil
	})
	return outputs, err
}

var upstreamPackage = regexp.MustCompile(`^bazel-out/[^/]+/bin/external/[^/]+/.+\.[ax]$`)

// UpstreamPackages tells by its outputs whether an action compiled a Go package of an upstream, and did nothing else.
func UpstreamPackages(outputs []string) bool {
	for _, o := range outputs {
		if !upstreamPackage.MatchString(o) || strings.Contains(o, "/../") {
			return false
		}
	}
	return len(outputs) > 0
}
