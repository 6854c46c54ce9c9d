package dockertest

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Engine is a Docker engine. Set its exported fields before the first command.
type Engine struct {
	// Version and Info are what it says about itself, Host is its address.
	Version docker.Version
	Info    docker.Info
	Host    string

	mu         sync.Mutex
	changed    chan struct{} // closed at each change of what is below
	replies    []Reply
	used       map[int]int
	calls      []string
	serial     int
	images     map[string]*Image // by their IDs
	containers map[string]*Container
	volumes    map[string]bool
	events     []event
}

// Image is an image. What a field leaves out its containers do not do.
type Image struct {
	docker.Image
	// Main is process 1 of its containers, and returns the state that it leaves them in. A
	// container without one runs until it is stopped.
	Main func(*Process) docker.State
	// Exec answers `docker exec`, and returns the exit status.
	Exec func(in io.Reader, out, err io.Writer, args ...string) int
	// Files are those that its containers have, besides their own.
	Files map[string]File
}

// Container is a container.
type Container struct {
	docker.Container
	// Flags are those of `docker create`, without dashes.
	Flags map[string][]string
	// Files are those that `docker cp` has brought, by their paths.
	Files map[string]File

	image   *Image
	process *Process
}

// File is a file of a container.
type File struct {
	Mode os.FileMode
	Data []byte
}

// Process is process 1 of a container that runs.
type Process struct {
	e    *Engine
	c    *Container
	log  []byte
	stop context.CancelFunc
	// ended is set when the process returned.
	ended bool
	// Context ends when the container is stopped.
	Context context.Context
}

type event struct {
	docker.Event
	time time.Time
}

func newEngine(replies []Reply) *Engine {
	return &Engine{
		Version: docker.Version{Version: "28.5.2", APIVersion: "1.51", Os: "linux", Arch: "amd64"},
		Info:    docker.Info{DockerRootDir: "/no/such/directory", Driver: "overlay2", SecurityOptions: []string{"name=seccomp,profile=builtin"}},
		Host:    "unix:///var/run/docker.sock",
		changed: make(chan struct{}), replies: replies, used: map[int]int{},
		images: map[string]*Image{}, containers: map[string]*Container{}, volumes: map[string]bool{},
	}
}

// AddImage adds an image, and returns its ID.
func (e *Engine) AddImage(i Image) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i.ID == "" {
		i.ID = "sha256:" + e.newID()
	}
	e.images[i.ID] = &i
	return i.ID
}

// Untag takes a name from the image that has it, as a build of another image does.
func (e *Engine) Untag(ref string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.images {
		i.RepoTags = slices.DeleteFunc(i.RepoTags, func(t string) bool { return t == ref })
	}
}

// Container returns a copy of the container of a name or ID, nil if there is none.
func (e *Engine) Container(name string) *Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.find(name)
	if c == nil {
		return nil
	}
	copied := *c
	return &copied
}

// Leftovers returns what there is besides images: containers' names, and volumes that no container
// has.
func (e *Engine) Leftovers() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var left []string
	for _, c := range e.containers {
		left = append(left, c.Name)
	}
	for v := range e.volumes {
		if e.containers[v] == nil {
			left = append(left, "volume of "+v)
		}
	}
	return left
}

// HasImage reports whether there is an image of this name or ID.
func (e *Engine) HasImage(ref string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.findImage(ref) != nil
}

// Log prints a line.
func (p *Process) Log(line string) {
	p.e.change(func() { p.log = append(p.log, line+"\n"...) })
}

// Health changes the container's health status.
func (p *Process) Health(status string) {
	p.e.change(func() {
		p.c.State.Health = health(status)
		p.e.emit(p.c, "exec_start: healthcheck")
		p.e.emit(p.c, "health_status: "+status)
	})
}

func health(status string) (h *struct {
	Status        string
	FailingStreak int
}) {
	h = new(struct {
		Status        string
		FailingStreak int
	})
	h.Status = status
	return h
}

func (e *Engine) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

// wait waits for a change, or the end of ctx. The lock is held before and after.
func (e *Engine) wait(ctx context.Context) error {
	changed := e.changed
	e.mu.Unlock()
	defer e.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) newID() string {
	e.serial++
	return fmt.Sprintf("%04x%060d", 0xc0de, e.serial)
}

func (e *Engine) emit(c *Container, action string) {
	ev := event{time: time.Now()}
	ev.Type, ev.Action, ev.Actor.ID = "container", action, c.ID
	ev.Actor.Attributes = map[string]string{"name": strings.TrimPrefix(c.Name, "/")}
	e.events = append(e.events, ev)
}

// find returns the container of a name or of the beginning of an ID.
func (e *Engine) find(name string) *Container {
	for _, c := range e.containers {
		if c.Name == "/"+name {
			return c
		}
	}
	for id, c := range e.containers {
		if strings.HasPrefix(id, name) {
			return c
		}
	}
	return nil
}

func (e *Engine) findImage(ref string) *Image {
	for id, i := range e.images {
		if id == ref || slices.Contains(i.RepoTags, ref) || slices.Contains(i.RepoDigests, ref) {
			return i
		}
	}
	return nil
}

func (e *Engine) killAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.process != nil {
			c.process.stop()
		}
	}
}

// command is a docker command that runs.
type command struct {
	ctx      context.Context
	args     []string
	in       *io.PipeReader
	out, err io.Writer
}

// run does what a command says and returns its exit status.
func (e *Engine) run(c *command) int {
	if r := e.reply(strings.Join(c.args, " ")); r != nil {
		c.in.Close()
		io.WriteString(c.out, r.Stdout)
		io.WriteString(c.err, r.Stderr)
		if r.Hang {
			<-c.ctx.Done()
		}
		return r.Exit
	}
	status, err := e.do(c)
	if err != nil {
		fmt.Fprintln(c.err, "Error response from daemon:", err)
		return 1
	}
	return status
}

func (e *Engine) do(c *command) (int, error) {
	verb, rest := c.args[0], c.args[1:]
	if verb == "container" || verb == "image" || verb == "context" {
		verb, rest = verb+" "+rest[0], rest[1:]
	}
	// After a name come the arguments of what runs in a container.
	flags, names := parse(rest, verb == "create" || verb == "exec")
	switch verb {
	case "exec":
		return e.exec(c, names)
	case "cp":
		return 0, e.copy(c, names)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() {
		close(e.changed)
		e.changed = make(chan struct{})
	}()
	switch verb {
	case "version":
		return 0, json.NewEncoder(c.out).Encode(map[string]any{"Server": e.Version})
	case "info":
		return 0, json.NewEncoder(c.out).Encode(e.Info)
	case "context inspect":
		return 0, json.NewEncoder(c.out).Encode(map[string]any{"docker": map[string]string{"Host": e.Host}})
	case "ps":
		return 0, e.list(c.out, flags["filter"])
	case "container inspect":
		found := e.find(names[0])
		if found == nil {
			return 0, fmt.Errorf("No such container: %s", names[0])
		}
		return 0, json.NewEncoder(c.out).Encode(found.Container)
	case "image inspect":
		found := e.findImage(names[0])
		if found == nil {
			return 0, fmt.Errorf("No such image: %s", names[0])
		}
		return 0, json.NewEncoder(c.out).Encode(found.Image)
	case "image rm":
		return 0, e.removeImage(names[0])
	case "save":
		for _, name := range names {
			if e.findImage(name) == nil {
				return 0, fmt.Errorf("No such image: %s", name)
			}
			fmt.Fprintln(c.out, "image", name)
		}
		return 0, nil
	case "create":
		id, err := e.create(flags, names)
		if err == nil {
			fmt.Fprintln(c.out, id)
		}
		return 0, err
	case "commit":
		return 0, e.commit(names[0], names[1])
	case "start":
		return 0, e.start(names[0])
	case "stop":
		found := e.find(names[0])
		if found == nil {
			return 0, fmt.Errorf("No such container: %s", names[0])
		}
		return 0, e.stop(found)
	case "rm":
		found := e.find(names[0])
		if found == nil {
			return 0, fmt.Errorf("No such container: %s", names[0])
		}
		if found.State.Running && flags["force"] == nil {
			return 0, errors.New("cannot remove a running container")
		}
		if err := e.stop(found); err != nil {
			return 0, err
		}
		delete(e.containers, found.ID)
		if flags["volumes"] != nil {
			delete(e.volumes, found.ID)
		}
		e.emit(found, "destroy")
		return 0, nil
	case "logs":
		return 0, e.logs(c, names[0], flags["follow"] != nil)
	case "events":
		return 0, e.follow(c, flags)
	}
	return 64, fmt.Errorf("dockertest has no docker %s", verb)
}

// parse takes flags and names apart; with a command, all that follows the first name is its.
func parse(args []string, command bool) (flags map[string][]string, names []string) {
	flags = map[string][]string{}
	for len(args) > 0 {
		name, isFlag := strings.CutPrefix(args[0], "--")
		if !isFlag {
			if command {
				return flags, args
			}
			names, args = append(names, args[0]), args[1:]
			continue
		}
		name, value, hasValue := strings.Cut(name, "=")
		args = args[1:]
		switch name {
		case "all", "follow", "force", "interactive", "no-trunc", "privileged", "quiet", "volumes":
		default:
			if !hasValue {
				value, args = args[0], args[1:]
			}
		}
		flags[name] = append(flags[name], value)
	}
	return flags, names
}

func (e *Engine) list(out io.Writer, filters []string) error {
	for _, c := range slices.SortedFunc(maps.Values(e.containers), func(a, b *Container) int { return strings.Compare(b.ID, a.ID) }) {
		if slices.ContainsFunc(filters, func(f string) bool { return !c.matches(f) }) {
			continue
		}
		status := c.State.Status
		if h := c.State.HealthStatus(); h != "" {
			status += " (" + h + ")"
		}
		s := docker.Summary{ID: c.ID, Names: strings.TrimPrefix(c.Name, "/"), Image: c.Config.Image, State: c.State.Status, Status: status}
		if err := json.NewEncoder(out).Encode(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) matches(filter string) bool {
	kind, value, _ := strings.Cut(filter, "=")
	switch kind {
	case "label":
		key, want, exact := strings.Cut(value, "=")
		got, ok := c.Config.Labels[key]
		return ok && (!exact || got == want)
	case "status":
		return c.State.Status == value
	case "publish":
		value, protocol, _ := strings.Cut(value, "/")
		for inner, bindings := range c.NetworkSettings.Ports {
			if !strings.HasSuffix(inner, "/"+cmp.Or(protocol, "tcp")) {
				continue
			}
			if slices.ContainsFunc(bindings, func(b docker.PortBinding) bool { return b.HostPort == value }) {
				return true
			}
		}
	}
	return false
}

func (e *Engine) removeImage(ref string) error {
	i := e.findImage(ref)
	if i == nil {
		return fmt.Errorf("No such image: %s", ref)
	}
	for _, c := range e.containers {
		if c.image == i {
			return fmt.Errorf("conflict: unable to delete %s: image is being used by container %s", ref, c.ID)
		}
	}
	delete(e.images, i.ID)
	return nil
}

func (e *Engine) create(flags map[string][]string, names []string) (string, error) {
	i := e.findImage(names[0])
	if i == nil {
		return "", fmt.Errorf("No such image: %s", names[0])
	}
	c := &Container{Flags: flags, Files: maps.Clone(i.Files), image: i}
	c.ID = e.newID()
	c.Name = "/" + c.ID[:12]
	if flags["name"] != nil {
		c.Name = "/" + flags["name"][0]
		if other := e.find(flags["name"][0]); other != nil && other.Name == c.Name {
			return "", fmt.Errorf("Conflict. The container name %q is already in use by container %q.", c.Name, other.ID)
		}
	}
	c.Image, c.Config.Image, c.State.Status = i.ID, names[0], "created"
	c.Config.Env = append(slices.Clone(i.Config.Env), flags["env"]...)
	c.Config.Labels = maps.Clone(i.Config.Labels)
	if c.Config.Labels == nil {
		c.Config.Labels = map[string]string{}
	}
	for _, l := range flags["label"] {
		key, value, _ := strings.Cut(l, "=")
		c.Config.Labels[key] = value
	}
	c.NetworkSettings.Ports = map[string][]docker.PortBinding{}
	if n := flags["network"]; n == nil || n[0] != "none" {
		for _, p := range flags["publish"] {
			at := strings.LastIndex(p, ":")
			address, inner := p[:at], p[at+1:]
			ip, port, err := net.SplitHostPort(address)
			if err != nil {
				port = address
			}
			c.NetworkSettings.Ports[inner] = append(c.NetworkSettings.Ports[inner], docker.PortBinding{HostIP: ip, HostPort: port})
		}
	}
	targets := map[string]bool{}
	for _, v := range flags["volume"] {
		if parts := strings.Split(v, ":"); len(parts) > 1 {
			if targets[parts[1]] {
				return "", fmt.Errorf("Duplicate mount point: %s", parts[1])
			}
			targets[parts[1]] = true
		}
	}
	e.containers[c.ID], e.volumes[c.ID] = c, true
	e.emit(c, "create")
	return c.ID, nil
}

func (e *Engine) start(name string) error {
	c := e.find(name)
	if c == nil {
		return fmt.Errorf("No such container: %s", name)
	}
	for inner, bindings := range c.NetworkSettings.Ports {
		_, protocol, _ := strings.Cut(inner, "/")
		for _, b := range bindings {
			for _, other := range e.containers {
				if other.State.Running && other.matches("publish="+b.HostPort+"/"+protocol) {
					return fmt.Errorf("driver failed programming external connectivity: Bind for %s:%s failed: port is already allocated", b.HostIP, b.HostPort)
				}
			}
		}
	}
	p := &Process{e: e, c: c}
	p.Context, p.stop = context.WithCancel(context.Background())
	c.process = p
	c.State = docker.State{Status: "running", Running: true, StartedAt: time.Now(), Pid: os.Getpid(), Health: health("starting")}
	e.emit(c, "start")
	go func() {
		end := docker.State{ExitCode: 137}
		if c.image.Main == nil {
			<-p.Context.Done()
		} else {
			end = c.image.Main(p)
		}
		e.change(func() {
			p.ended = true
			c.State = end
			c.State.Status = "exited"
			if end.Running { // again, by a restart policy
				c.State.Status = "running"
			}
			e.emit(c, "die")
		})
	}()
	return nil
}

// stop kills a container and waits until it has ended.
func (e *Engine) stop(c *Container) error {
	if !c.State.Running {
		return nil
	}
	if c.process.ended { // and was restarted, which has no process here
		c.State.Running = false
		return nil
	}
	c.process.stop()
	for c.State.Running {
		if err := e.wait(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) logs(c *command, name string, follow bool) error {
	found := e.find(name)
	if found == nil {
		return fmt.Errorf("No such container: %s", name)
	}
	for written := 0; ; {
		if found.process != nil {
			if _, err := c.out.Write(found.process.log[written:]); err != nil {
				return err
			}
			written = len(found.process.log)
		}
		if !follow || !found.State.Running {
			return nil
		}
		if err := e.wait(c.ctx); err != nil {
			return err
		}
	}
}

func (e *Engine) follow(c *command, flags map[string][]string) error {
	next := len(e.events)
	if flags["since"] != nil {
		since, err := time.Parse(time.RFC3339Nano, flags["since"][0])
		if err != nil {
			return err
		}
		next = slices.IndexFunc(e.events, func(ev event) bool { return !ev.time.Before(since) })
		if next < 0 {
			next = len(e.events)
		}
	}
	for {
		for ; next < len(e.events); next++ {
			ev := e.events[next].Event
			if slices.ContainsFunc(flags["filter"], func(f string) bool {
				kind, value, _ := strings.Cut(f, "=")
				return kind == "container" && ev.Actor.ID != value && ev.Actor.Attributes["name"] != value ||
					kind == "type" && ev.Type != value
			}) {
				continue
			}
			if err := json.NewEncoder(c.out).Encode(ev); err != nil {
				return err
			}
		}
		if err := e.wait(c.ctx); err != nil {
			return err
		}
	}
}

func (e *Engine) exec(c *command, args []string) (int, error) {
	found := e.Container(args[0])
	switch {
	case found == nil:
		return 0, fmt.Errorf("No such container: %s", args[0])
	case !found.State.Running:
		return 0, fmt.Errorf("container %s is not running", found.ID)
	case found.image.Exec == nil:
		return 0, fmt.Errorf("exec: %q: executable file not found in $PATH", args[1])
	}
	return found.image.Exec(c.in, c.out, c.err, args[1:]...), nil
}

// commit makes an image of a container.
func (e *Engine) commit(name, ref string) error {
	found := e.find(name)
	if found == nil {
		return fmt.Errorf("No such container: %s", name)
	}
	made := *found.image
	made.ID, made.RepoTags, made.RepoDigests, made.Files = "sha256:"+e.newID(), []string{ref}, nil, maps.Clone(found.Files)
	for _, i := range e.images {
		i.RepoTags = slices.DeleteFunc(i.RepoTags, func(t string) bool { return t == ref })
	}
	e.images[made.ID] = &made
	return nil
}

// copyOut writes an archive with a file of a container.
func (e *Engine) copyOut(c *command, name, file string) error {
	found := e.Container(name)
	if found == nil {
		return fmt.Errorf("No such container: %s", name)
	}
	f, ok := found.Files[file]
	if !ok {
		return fmt.Errorf("Could not find the file %s in container %s", file, name)
	}
	archive := tar.NewWriter(c.out)
	if err := archive.WriteHeader(&tar.Header{Name: path.Base(file), Mode: int64(f.Mode), Size: int64(len(f.Data))}); err != nil {
		return err
	}
	if _, err := archive.Write(f.Data); err != nil {
		return err
	}
	return archive.Close()
}

// copy brings the files of an archive, which is the input, to a container, or one of its files to the
// output.
func (e *Engine) copy(c *command, names []string) error {
	if name, file, ok := strings.Cut(names[0], ":"); ok && names[1] == "-" {
		c.in.Close()
		return e.copyOut(c, name, file)
	}
	name, dir, ok := strings.Cut(names[1], ":")
	if names[0] != "-" || !ok {
		return fmt.Errorf("dockertest has no docker cp %s %s", names[0], names[1])
	}
	files := map[string]File{}
	for archive := tar.NewReader(c.in); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		files[path.Join(dir, header.Name)] = File{header.FileInfo().Mode(), data}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	found := e.find(name)
	if found == nil {
		return fmt.Errorf("No such container: %s", name)
	}
	if found.Files == nil {
		found.Files = map[string]File{}
	}
	maps.Copy(found.Files, files)
	return nil
}
