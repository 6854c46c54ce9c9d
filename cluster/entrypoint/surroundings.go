package entrypoint

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/proxy"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// heedSurroundings hands on to the nodes what they need to know of what is outside the cluster, and
// warns of what they will not reach there, and of what they will not have of the configuration file.
func heedSurroundings(getenv func(string) string, c v1alpha1.Cluster, out io.Writer) error {
	proxies, err := proxy.FromEnv(getenv)
	if err != nil {
		return err
	}
	if err := proxies.Complete(c).Share(proxy.Dir); err != nil {
		return err
	}
	resolvConf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	log := progress.New(out)
	for _, warning := range slices.Concat(settings.Warnings(paths.Config), shadowedServers(resolvConf, c.Networking), proxies.Warnings(context.Background(), c.Networking)) {
		log.Printf("%s", warning)
	}
	return nil
}

// external matches the comment in which Docker lists the servers that its own resolver, at
// 127.0.0.11, asks: those without "host(…)" it asks from within the container
// (https://github.com/moby/moby/blob/v28.5.2/libnetwork/internal/resolvconf/resolvconf.go).
var external = regexp.MustCompile(`(?m)^# ExtServers: \[(.*)\]`)

// shadowedServers warns of DNS servers whose addresses the cluster has inside.
func shadowedServers(resolvConf []byte, n v1alpha1.Networking) []string {
	var servers []string
	for line := range bytes.Lines(resolvConf) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "nameserver" {
			servers = append(servers, fields[1])
		}
	}
	for _, match := range external.FindAllSubmatch(resolvConf, -1) {
		servers = append(servers, strings.Fields(string(match[1]))...)
	}
	var out []string
	for _, server := range servers {
		a, err := netip.ParseAddr(server)
		if err != nil {
			continue
		}
		if subnet, ok := settings.Shadows(n, a); ok {
			out = append(out, "warning: "+settings.Hides(subnet, fmt.Sprintf("the DNS server %s (/etc/resolv.conf)", a),
				"nodes and pods cannot look up names outside the cluster"))
		}
	}
	return out
}
