package missing

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// Feature is something that some kernels are built without, and that single specs need.
type Feature struct {
	// Name is what it is, and the option of the kernel's configuration.
	Name string
	// Specs match the full names of the specs that need it; Label is a label of such specs. Either
	// may be empty.
	Specs *regexp.Regexp
	Label string
	// has reports whether the kernel has it. It may make the kernel load a module, as the specs
	// themselves do.
	has func(context.Context) (bool, error)
}

// Features are those known.
var Features = []Feature{
	{
		Name:  "dummy network devices (CONFIG_DUMMY)",
		Specs: regexp.MustCompile(`PrivilegedPod .*should enable privileged commands`),
		has:   hasDummy,
	},
	{
		Name:  "SCTP (CONFIG_IP_SCTP)",
		Label: "Feature:SCTPConnectivity",
		has:   hasSCTP,
	},
}

// Needs reports whether a spec needs the feature.
func (f Feature) Needs(s results.Planned) bool {
	return f.Specs != nil && f.Specs.MatchString(s.Name) || f.Label != "" && slices.Contains(s.Labels, f.Label)
}

// Kernel returns the features that specs need and the kernel does not have. It takes rights that
// the top-level container has. Features that no spec needs are not looked for.
func Kernel(ctx context.Context, specs []results.Planned) ([]Thing, error) {
	var things []Thing
	for _, f := range Features {
		var names []string
		for _, s := range specs {
			if f.Needs(s) {
				names = append(names, s.Name)
			}
		}
		if len(names) == 0 {
			continue
		}
		has, err := f.has(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking whether the kernel has %s: %w", f.Name, err)
		}
		if !has {
			things = append(things, Thing{"kernel feature " + f.Name, names})
		}
	}
	return things, nil
}

// hasDummy makes such a device, in a network namespace of its own, which ends with the command.
func hasDummy(ctx context.Context) (bool, error) {
	out, err := exec.CommandContext(ctx, "unshare", "--net", "ip", "link", "add", "probe", "type", "dummy").CombinedOutput()
	switch {
	case err == nil:
		return true, nil
	// What iproute2 says to EOPNOTSUPP:
	// https://github.com/iproute2/iproute2/blob/main/lib/libnetlink.c
	case strings.Contains(string(out), "Unknown device type"), strings.Contains(string(out), "not supported"):
		return false, nil
	}
	return false, fmt.Errorf("unshare --net ip link add: %w: %s", err, strings.TrimSpace(string(out)))
}

func hasSCTP(context.Context) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.Close(fd)
}
