package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
)

// checkKernel looks for what the cluster's networks need of the Docker host's kernel.
func checkKernel(ctx context.Context, t topology.Topology, proc string) error {
	var errs []error
	if _, err := os.Stat(filepath.Join(proc, "sys/net/ipv6/conf/all")); t.Networks.IPv6() && err != nil {
		errs = append(errs, errors.New("the Docker host's kernel has no IPv6 (it was started with ipv6.disable=1, or built without): choose networking.ipFamily ipv4 (environment variable IP_FAMILY)"))
	}
	if t.ProxyMode == v1alpha1.KubeProxyIPVS {
		// To ask for it makes the kernel load its module, if the host has that.
		_ = exec.CommandContext(ctx, "genl", "ctrl", "get", "name", "IPVS").Run()
		if _, err := os.Stat(filepath.Join(proc, "net/ip_vs")); err != nil {
			errs = append(errs, fmt.Errorf("the Docker host's kernel has no IPVS (%w): load its module there (`modprobe ip_vs`), or choose another networking.kubeProxyMode (environment variable KUBE_PROXY_MODE), such as nftables", err))
		}
	}
	return errors.Join(errs...)
}
