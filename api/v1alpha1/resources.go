package v1alpha1

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The least memory that a node can do with, in bytes: what it takes without pods of users (docs/performance.md says how to measure
// that), the 100 MiB below which the kubelet evicts pods, and room for some.
const (
	MinControlPlaneMemory = 1 << 30
	MinWorkerMemory       = 512 << 20
)

var errMemory = errors.New("want a number of bytes with a suffix, such as 2Gi or 512Mi")

// suffixes are those of Kubernetes' quantities, without fractions
// (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity).
var suffixes = []struct {
	name  string
	bytes int64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1},
}

// MemoryBytes returns the limit of memory in bytes, 0 if there is none.
func (r Resources) MemoryBytes() (int64, error) {
	if r.Memory == "" {
		return 0, nil
	}
	for _, s := range suffixes {
		digits, ok := strings.CutSuffix(r.Memory, s.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || int64(n) > math.MaxInt64/s.bytes {
			return 0, errMemory
		}
		return int64(n) * s.bytes, nil
	}
	return 0, errMemory
}

// resources checks the limits of a node.
func (v *validation) resources(node string, n Node) {
	if n.Resources.CPUs < 0 {
		v.fail(node+".resources.cpus", "%d: want a whole number from 1", n.Resources.CPUs)
	}
	bytes, err := n.Resources.MemoryBytes()
	least := int64(MinWorkerMemory)
	if n.Role == RoleControlPlane {
		least = MinControlPlaneMemory
	}
	if err == nil && n.Resources.Memory != "" && bytes < least {
		err = fmt.Errorf("a node with the role %s needs at least %dMi", n.Role, least>>20)
	}
	v.check(node+".resources.memory", n.Resources.Memory, err)
}

// CheckMachine returns an error that names each node which is to have more processors than the machine.
func (c Cluster) CheckMachine(cpus int) error {
	var errs []error
	for i, n := range c.Nodes {
		if want := n.Resources.CPUs; want > cpus && (n.Count == nil || *n.Count > 0) {
			errs = append(errs, fmt.Errorf("nodes[%d].resources.cpus: %d: the Docker host has %d for the cluster's container: want at most as many", i, want, cpus))
		}
	}
	return errors.Join(errs...)
}
