package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"regexp"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

// localServer is the API server's URL for programs that `docker exec` starts in this container: the
// control plane's published port. Clients written in Go never use a proxy for 127.0.0.1
// (https://pkg.go.dev/net/http#ProxyFromEnvironment). What `docker exec` starts has the environment
// that the user gave the container, in which NO_PROXY does not have the control plane's address.
var localServer = fmt.Sprintf("https://127.0.0.1:%d", v1alpha1.APIServerPort)

// HostKubeconfig returns the administrator's kubeconfig as it works on the Docker host. An empty
// server means the address and port of the settings, an empty name that of defaultName.
func HostKubeconfig(s v1alpha1.Cluster, server, name string) ([]byte, error) {
	config, err := adminKubeconfig()
	if err != nil {
		return nil, err
	}
	if server == "" {
		server = "https://" + netip.AddrPortFrom(v1alpha1.Reached(s.Networking.APIAddress()), uint16(cmp.Or(s.Networking.APIServerPort, v1alpha1.APIServerPort))).String()
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		name = defaultName(host, s.Name)
	}
	config.Server, config.Name = server, name
	return config.Marshal()
}

// generated matches the host name of a container for which the user chose none: the beginning of
// its ID.
var generated = regexp.MustCompile(`^[0-9a-f]{12}$`)

// defaultName returns a cluster's name in a kubeconfig: the container's host name, if the user
// chose one, or what the configuration says. The container's own name cannot be known inside of it.
func defaultName(host, configured string) string {
	if generated.MatchString(host) {
		return cmp.Or(configured, "dind-cluster")
	}
	return host
}
