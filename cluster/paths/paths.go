// Package paths names the files that the runner's verbs share, in the top-level container and in
// the nodes.
package paths

const (
	// Run is the directory for what must not survive a restart of the container.
	Run = "/run/dind-cluster"
	// Role is the file with what the image is: "cluster" or "node".
	Role = "/usr/lib/dind-cluster/role"
	// Stores has directories with unpacked images for containerd: see package store. In the
	// top-level container it is the node image in NodeStore, in a node the component images.
	Stores    = "/usr/lib/dind-cluster/store"
	NodeStore = Stores + "/node"
	// Containerd is the root directory of a node's containerd, and DockerContainerd that of the one
	// in the top-level container, where it is on Docker's volume.
	Containerd       = "/var/lib/containerd"
	DockerContainerd = DockerRoot + "/containerd"
	// DockerRoot is the volume of the top-level container.
	DockerRoot = "/var/lib/docker"
	// Seeded has what containerd's root directory got from Stores at this start: a store.Result.
	Seeded = Run + "/images.json"
	// Addons has the state of the add-ons, once the cluster is ready.
	Addons = Run + "/addons.json"
	// Console is the named pipe whose content goes to the container's own output.
	Console = Run + "/console"
	// Config is the configuration file of a cluster, which its user puts there. Settings is the
	// effective one, of the file and the environment, which the entrypoint writes first of all.
	Config   = "/etc/dind-cluster/config.yaml"
	Settings = Run + "/settings.yaml"
	// Manifests and Images are directories with objects and images for the cluster, which its user puts there.
	Manifests = "/etc/dind-cluster/manifests"
	Images    = "/etc/dind-cluster/images"
	// Snapshot is the snapshot of a cluster that a new container brings back. Restored has the
	// manifest of the one that the volume came from, and FreshKeys exists until that cluster has new
	// keys, if it is to have them.
	Snapshot  = "/etc/dind-cluster/snapshot"
	Restored  = State + "/snapshot.json"
	FreshKeys = State + "/fresh-keys"
	// Restoring exists while a snapshot is being restored into the volume, with the machine's boot ID
	// in it.
	Restoring = DockerRoot + "/dind-cluster.restoring"
	// Restore has when this start has restored a snapshot, if it has.
	Restore = Run + "/restore.json"
	// Lock is locked (flock(2)) by whoever changes the cluster as a whole: a start, a change of its
	// nodes, a snapshot.
	Lock = Run + "/lock"
	// Phase has one line with what the runner is doing; Ready exists when the cluster is ready.
	Phase = Run + "/phase"
	Ready = Run + "/ready"
	// Incomplete exists if something that a user wants in the cluster, once it is ready, could not be done. It says what and why.
	Incomplete = Run + "/incomplete"
	// ControlSocket is where the runner takes requests: see package control.
	ControlSocket = Run + "/control/runner.sock"
	// Held exists while the controllers are held for a pause: see cluster/pause.go.
	Held = Run + "/held"
	// Timeline has when each piece of the last start began and ended: see package timeline.
	Timeline = Run + "/timeline.json"
	// State is the top-level container's directory for what must survive a restart, keys among it.
	// It is on Docker's volume, with the nodes' containers that it belongs to: both come and go
	// together, and `docker commit` takes neither.
	State = DockerRoot + "/dind-cluster"
	// Host is the directory where the top-level container has what nodes mount of the Docker host.
	Host = "/host"
	// Logs is the directory for the collected logs of a failed start.
	Logs = "/var/log/dind-cluster"
	// AdminKubeconfig is kubectl's kubeconfig in the top-level container: a link to a file below
	// State.
	AdminKubeconfig = "/root/.kube/config"
	// NodeConfig is the directory with the node's settings, which the top-level container mounts.
	NodeConfig = "/etc/dind-cluster"
	// StatusDir is the directory on the top-level container with the socket that nodes report to,
	// and where a node finds it.
	StatusDir     = Run + "/nodes"
	NodeStatusDir = "/var/lib/dind-cluster/status"
	StatusSocket  = "status.sock"
	// ResolvConf is the file that pods' resolv.conf is made from.
	ResolvConf = Run + "/resolv.conf"
	// ContainerdConfig is the node's runtime configuration. The image has the original below
	// ContainerdTemplate; the entrypoint adapts it to the host.
	ContainerdConfig   = "/etc/containerd/config.toml"
	ContainerdTemplate = "/usr/lib/dind-cluster/containerd/config.toml"
)
