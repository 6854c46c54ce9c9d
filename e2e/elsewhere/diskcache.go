package elsewhere

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
)

// UpstreamCache serves the Go packages of upstreams in one of Bazel's disk caches to another Bazel,
// as a remote cache that cannot be written to. It withholds the results of all other actions. Close
// it.
type UpstreamCache struct {
	*httptest.Server // URL is for --remote_cache
	// Served, Withheld and Unknown count the actions that were asked for; Rejected counts requests
	// other than reads.
	Served, Withheld, Unknown, Rejected atomic.Int32
}

// ServeUpstream serves a disk cache at a free port of the loopback, by Bazel's HTTP protocol for
// caches: /ac/KEY is an action's result, /cas/DIGEST a content
// (https://bazel.build/remote/caching#http-caching).
func ServeUpstream(dir string) *UpstreamCache {
	c := &UpstreamCache{}
	content := func(w http.ResponseWriter, r *http.Request) {
		key := r.PathValue("key")
		http.ServeFile(w, r, filepath.Join(dir, "cas", key[:min(2, len(key))], key))
	}
	result := func(w http.ResponseWriter, r *http.Request) {
		key := r.PathValue("key")
		result, err := os.ReadFile(filepath.Join(dir, "ac", key[:min(2, len(key))], key))
		switch {
		case err != nil:
			c.Unknown.Add(1)
			http.NotFound(w, r)
		case !compiledUpstream(result):
			c.Withheld.Add(1)
			http.NotFound(w, r)
		default:
			c.Served.Add(1)
			w.Write(result)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ac/{key}", result)
	mux.HandleFunc("GET /cas/{key}", content)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		c.Rejected.Add(1)
		http.Error(w, "this cache is read-only", http.StatusMethodNotAllowed)
	})
	c.Server = httptest.NewServer(mux)
	return c
}

var (
	// In an ActionResult of the remote execution API a path ends where the next field begins, with
	// a control character.
	outputPath      = regexp.MustCompile(`bazel-out/[\x20-\x7e]+`)
	upstreamPackage = regexp.MustCompile(`^bazel-out/[^/]+/bin/external/([^/.][^/]*/)+[^/]+\.[ax]$`)
)

// compiledUpstream reports whether the outputs in an ActionResult are Go packages of an upstream,
// and nothing else.
func compiledUpstream(result []byte) bool {
	outputs := outputPath.FindAll(result, -1)
	for _, o := range outputs {
		if !upstreamPackage.Match(o) {
			return false
		}
	}
	return len(outputs) > 0
}
