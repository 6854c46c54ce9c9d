// Package docker loads images into a Docker engine on this machine, over its API.
package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/image/archive"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// DefaultSocket is where the engine listens.
const DefaultSocket = "/var/run/docker.sock"

// Options say which engine.
type Options struct {
	// Socket is the engine's unix socket; DefaultSocket if empty.
	Socket string
	// Wait is how long the engine may take to answer.
	Wait time.Duration
	// Progress receives a line per archive; nil for silence.
	Progress *progress.Printer
}

// Runtime is a Docker engine.
type Runtime struct {
	o    Options
	http *http.Client
}

// New connects to the engine, waiting until it answers.
func New(ctx context.Context, o Options) (*Runtime, error) {
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	r := &Runtime{o: o, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket)
		},
		WriteBufferSize: 256 << 10,
	}}}
	ping, cancel := context.WithTimeout(ctx, max(o.Wait, time.Second))
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := r.call(ping, http.MethodGet, "/_ping", nil, nil)
		if err == nil {
			return r, nil
		}
		select {
		case <-time.After(pause):
		case <-ping.Done():
			return nil, fmt.Errorf("no Docker engine answers at %s: %w", o.Socket, err)
		}
	}
}

// Snapshotter is the containerd snapshotter of an engine that keeps its images in containerd, empty for one that has a
// store of its own.
func (r *Runtime) Snapshotter(ctx context.Context) (string, error) {
	var info struct {
		Driver       string
		DriverStatus [][2]string
	}
	if err := r.call(ctx, http.MethodGet, "/info", nil, &info); err != nil {
		return "", fmt.Errorf("asking Docker about itself: %w", err)
	}
	if slices.Contains(info.DriverStatus, [2]string{"driver-type", "io.containerd.snapshotter.v1"}) {
		return info.Driver, nil
	}
	return "", nil
}

// Close ends the connections.
func (r *Runtime) Close() error {
	r.http.CloseIdleConnections()
	return nil
}

// Load puts all images of an archive into the engine, or none: the engine reads the whole stream before it looks at it,
// and the stream ends early when a layer turns out damaged.
func (r *Runtime) Load(ctx context.Context, a *archive.Archive) error {
	var todo []*archive.Image
	for _, img := range a.Images {
		there, err := r.present(ctx, img)
		if err != nil {
			return fmt.Errorf("asking Docker for %s: %w", img, err)
		}
		if there {
			r.o.Progress.Step("%s", img).Done("already there")
			continue
		}
		todo = append(todo, img)
	}
	if len(todo) == 0 {
		return nil
	}
	var names []string
	var size int64
	for _, img := range todo {
		names = append(names, img.String())
		size += img.LayerSize()
		for _, l := range img.Blobs() {
			// On the way only the stored bytes are verified. What they unpack to has to be known before.
			if digest, _ := l.Digest(); l.CheckDiffID(digest) != nil {
				if err := l.Verify(ctx); err != nil {
					return err
				}
			}
		}
	}
	step := r.o.Progress.Step("%s", strings.Join(names, ", "))
	if err := r.send(ctx, todo); err != nil {
		step.Fail("failed")
		return fmt.Errorf("loading %s into Docker: %w", a.Name, err)
	}
	step.Done("%s", progress.Size(size))
	return nil
}

// present says whether the engine has the image under all its names. It adds names to an image that it has.
func (r *Runtime) present(ctx context.Context, img *archive.Image) (bool, error) {
	id, err := img.ConfigName()
	if err != nil {
		return false, err
	}
	digest, err := img.Digest()
	if err != nil {
		return false, err
	}
	// The engine's ID of an image is the config's digest, or with containerd's image store the manifest's.
	var have string
	for _, h := range []string{id.String(), digest.String()} {
		if have, err = r.imageID(ctx, h); err != nil {
			return false, err
		} else if have != "" {
			break
		}
	}
	if have == "" {
		return false, nil
	}
	for _, name := range img.Names {
		if got, err := r.imageID(ctx, name); err != nil {
			return false, err
		} else if got == have {
			continue
		}
		repo, tag, ok := cutTag(name)
		if !ok {
			return false, nil // a name with a digest cannot be given
		}
		q := url.Values{"repo": {repo}, "tag": {tag}}
		if err := r.call(ctx, http.MethodPost, "/images/"+have+"/tag?"+q.Encode(), nil, nil); err != nil {
			return false, err
		}
	}
	return true, nil
}

func cutTag(name string) (repo, tag string, ok bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name, "@") || strings.Contains(name[i:], "/") {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// imageID is the ID of the image that the engine knows by a name or an ID, empty if none.
func (r *Runtime) imageID(ctx context.Context, name string) (string, error) {
	var image struct{ Id string }
	err := r.call(ctx, http.MethodGet, "/images/"+name+"/json", nil, &image)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return "", nil
	}
	return image.Id, err
}

// send streams the images to the engine.
func (r *Runtime) send(ctx context.Context, images []*archive.Image) error {
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		buf := bufio.NewWriterSize(pw, 256<<10)
		err := archive.Write(buf, images)
		if err == nil {
			err = buf.Flush()
		}
		pw.CloseWithError(err)
		sent <- err
	}()
	err := r.call(ctx, http.MethodPost, "/images/load?quiet=1", pr, nil)
	pr.CloseWithError(errStopped)
	// A damaged layer is the cause, whatever the engine made of the stream that broke off.
	if serr := <-sent; serr != nil && !errors.Is(serr, errStopped) && !errors.Is(serr, io.ErrClosedPipe) {
		return serr
	}
	return err
}

var errStopped = errors.New("the engine stopped reading")

// statusError is an answer of the engine that says no.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return e.message }

// call makes one request and reads its answer: into out, or as the stream of messages that a load gives, one of which may
// be an error although the status said OK.
func (r *Runtime) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-tar")
	}
	resp, err := r.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL says nothing to the user
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		var m struct{ Message string }
		if json.Unmarshal(raw, &m) != nil || m.Message == "" {
			m.Message = strings.TrimSpace(resp.Status + " " + string(raw))
		}
		return &statusError{resp.StatusCode, m.Message}
	}
	if out != nil {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	for d := json.NewDecoder(resp.Body); ; {
		var m struct {
			Error       string
			ErrorDetail struct{ Message string }
		}
		if err := d.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading Docker's answer: %w", err)
		}
		if m.ErrorDetail.Message != "" {
			m.Error = m.ErrorDetail.Message
		}
		if m.Error != "" {
			return errors.New(m.Error)
		}
	}
}
