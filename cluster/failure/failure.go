// Package failure explains why a container's main unit failed when the unit could not: because it
// was killed, or because a unit that it needs did not come up.
package failure

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Failure describes how a unit ended.
type Failure struct {
	Unit string
	// Result is systemd's word for it, Code and Status describe how its process ended. All are
	// empty or "success" if it never ran.
	Result, Code, Status string
}

// FromEnv reads the variables that systemd sets for a unit which another one names in OnFailure=
// ($MONITOR_SERVICE_RESULT and others in systemd.exec(5)).
func FromEnv(getenv func(string) string) Failure {
	return Failure{
		Unit:   getenv("MONITOR_UNIT"),
		Result: getenv("MONITOR_SERVICE_RESULT"),
		Code:   getenv("MONITOR_EXIT_CODE"),
		Status: getenv("MONITOR_EXIT_STATUS"),
	}
}

// Explained reports whether the runner exited by itself, with an error that it has printed.
func (f Failure) Explained() bool {
	return f.Result == "exit-code" && f.Code == "exited" && f.Status == "1"
}

// String returns what happened, in one line.
func (f Failure) String() string {
	switch {
	case f.Result == "oom-kill":
		return f.Unit + " was killed, since there was not enough memory"
	case f.Code == "killed" || f.Code == "dumped":
		return fmt.Sprintf("%s was killed (SIG%s)", f.Unit, f.Status)
	case f.Result == "" || f.Result == "success":
		return "a unit that the cluster needs did not come up"
	}
	return fmt.Sprintf("%s failed (%s, %s)", f.Unit, f.Result, strings.TrimSpace(f.Code+" "+f.Status))
}

// command runs a program and returns what it printed.
type command func(ctx context.Context, name string, args ...string) ([]byte, error)

// Explain writes the last lines of the journal of each unit that has failed or not come up, since a
// point in time.
func (f Failure) Explain(ctx context.Context, out io.Writer, since time.Time) {
	f.explain(ctx, out, since, func(ctx context.Context, name string, args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, name, args...).CombinedOutput()
	})
}

func (f Failure) explain(ctx context.Context, out io.Writer, since time.Time, run command) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// What was written last may be on its way to the journal.
	_, _ = run(ctx, "journalctl", "--sync")
	list, err := run(ctx, "systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "--full", "--state=failed,activating")
	if err != nil {
		fmt.Fprintf(out, "asking systemd for units that have failed: %v: %s\n", err, bytes.TrimSpace(list))
	}
	for _, unit := range units(f.Unit, string(list)) {
		text, err := run(ctx, "journalctl", "--no-pager", "--output=cat", "--lines=15", "--since=@"+strconv.FormatInt(max(0, since.Unix()), 10), "--unit="+unit)
		fmt.Fprintf(out, "===== %s\n%s\n", unit, bytes.TrimSpace(text))
		if err != nil {
			fmt.Fprintf(out, "reading its journal: %v\n", err)
		}
	}
}

// itself is the unit in which this program runs.
const itself = "dind-failed.service"

// units returns the names in a list of units, the main unit first.
func units(main, list string) []string {
	var names []string
	if main != "" {
		names = append(names, main)
	}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] != itself && !slices.Contains(names, fields[0]) {
			names = append(names, fields[0])
		}
	}
	return names
}
