package inside

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
	"github.com/dind-cluster/dind-cluster/internal/docker"
)

// Details are what the runner does not see: systemd's units, and the containers of pods.
type Details struct {
	Units      []timeline.Span `json:"units"`
	Containers []timeline.Span `json:"containers"`
}

// The units that take time, at both levels.
var units = []string{
	"systemd-journald.service", "systemd-tmpfiles-setup.service", "dbus.service", "dbus-broker.service", "containerd.service", "docker.service",
	"kubelet.service", "dind-dns.service", "dind-node.service", "dind-cluster.service",
}

// Collect asks the top-level container and all nodes for details of their start.
func Collect(ctx context.Context) (*Details, error) {
	d, err := docker.Find()
	if err != nil {
		return nil, err
	}
	containers, err := containersOf(ctx, d)
	if err != nil {
		return nil, err
	}
	show := append([]string{"systemctl", "show", "--property=Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"}, units...)
	boot := []string{"systemctl", "show", "--property=UserspaceTimestampMonotonic,FinishTimestampMonotonic"}
	var out Details
	offset, err := clockOffset()
	if err != nil {
		return nil, err
	}
	add := func(lane string, run func(args ...string) ([]byte, error)) error {
		manager, err := run(boot...)
		if err != nil {
			return err
		}
		each, err := run(show...)
		if err != nil {
			return err
		}
		out.Units = append(out.Units, unitSpans(lane, "systemd", string(manager), "UserspaceTimestampMonotonic", "FinishTimestampMonotonic", offset)...)
		out.Units = append(out.Units, unitSpans(lane, "", string(each), "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic", offset)...)
		return nil
	}
	if err := add("", func(args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, args[0], args[1:]...).Output()
	}); err != nil {
		return nil, fmt.Errorf("asking systemd: %w", err)
	}
	for _, c := range containers {
		name := strings.TrimPrefix(c.Name, "/")
		if err := add(name, func(args ...string) ([]byte, error) { return d.Exec(ctx, c.ID, args...) }); err != nil {
			return nil, err
		}
		list, err := d.Exec(ctx, c.ID, "sh", "-c", "crictl inspect --output json $(crictl ps --all --quiet)")
		if err != nil {
			return nil, err
		}
		spans, err := containerSpans(name, list)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		out.Containers = append(out.Containers, spans...)
	}
	return &out, nil
}

// clockOffset is what has to be added to the kernel's monotonic clock to get the time of day.
func clockOffset() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("reading the clock: %w", err)
	}
	return time.Duration(time.Now().UnixNano() - t.Nano()), nil
}

// unitSpans reads what `systemctl show` prints: blocks of NAME=VALUE, times in microseconds of the
// monotonic clock. Units that have not run are left out. A name that is given stands for the one of
// the block.
func unitSpans(lane, name, text, begin, end string, offset time.Duration) []timeline.Span {
	var spans []timeline.Span
	for block := range strings.SplitSeq(text, "\n\n") {
		values := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			values[key] = value
		}
		from, err1 := strconv.ParseInt(values[begin], 10, 64)
		to, err2 := strconv.ParseInt(values[end], 10, 64)
		id := name
		if id == "" {
			id = strings.TrimSuffix(values["Id"], ".service")
		}
		if err1 != nil || err2 != nil || from <= 0 || to < from || id == "" {
			continue
		}
		at := func(us int64) time.Time { return time.Unix(0, us*1000).Add(offset).UTC() }
		spans = append(spans, timeline.Span{Lane: lane, Name: id, Start: at(from), End: at(to)})
	}
	return spans
}

// containerSpans reads what `crictl inspect` prints of several containers. A span is from a
// container's creation to its start.
func containerSpans(lane string, data []byte) ([]timeline.Span, error) {
	var list []struct {
		Status struct {
			Metadata             struct{ Name string }
			CreatedAt, StartedAt time.Time
		}
	}
	// One container is an object, several are a list.
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, "{") {
		text = "[" + text + "]"
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("reading what crictl prints: %w", err)
	}
	var spans []timeline.Span
	for _, c := range list {
		s := c.Status
		if s.StartedAt.Before(s.CreatedAt) || s.Metadata.Name == "" {
			// Not started.
			continue
		}
		spans = append(spans, timeline.Span{Lane: lane, Name: s.Metadata.Name, Start: s.CreatedAt, End: s.StartedAt})
	}
	return spans, nil
}
