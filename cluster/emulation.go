package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// maxEmulated is how many minor versions before its own a component emulates (kubeEffectiveVersionFloors in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apiserver/pkg/util/compatibility/version.go).
const maxEmulated = 3

// checkEmulation reports whether the Kubernetes in this image has a version that a user wants emulated.
func checkEmulation(ctx context.Context, wanted string) error {
	if wanted == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "kubectl", "version", "--client", "--output=json").Output()
	if err != nil {
		return fmt.Errorf("reading the version of Kubernetes: %w", err)
	}
	var version struct {
		ClientVersion struct{ Major, Minor string }
	}
	if err := json.Unmarshal(out, &version); err != nil {
		return fmt.Errorf("reading the version of Kubernetes: %w", err)
	}
	return emulates(version.ClientVersion.Major+"."+version.ClientVersion.Minor, wanted)
}

// emulates reports whether a minor version of Kubernetes has another one's features and APIs.
func emulates(own, wanted string) error {
	number := func(version string) (int, error) {
		_, minor, _ := strings.Cut(strings.TrimSuffix(version, "+"), ".")
		return strconv.Atoi(minor)
	}
	has, err := number(own)
	if err != nil {
		return fmt.Errorf("reading the version %q of Kubernetes: %w", own, err)
	}
	if n, err := number(wanted); err != nil || n > has || n < has-maxEmulated {
		return fmt.Errorf("kubernetes.emulatedVersion: %q: Kubernetes 1.%d emulates 1.%d to 1.%d", wanted, has, has-maxEmulated, has)
	}
	return nil
}
