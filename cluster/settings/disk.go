package settings

// How many bytes of Docker's disk a cluster takes while it starts: the control plane, most of it
// etcd's log, with some room for pods, and each further node.
const (
	controlPlaneDisk = 1 << 30
	workerDisk       = 100 << 20
)

// Disk returns how many bytes of the disk must be free for a cluster with the given number of
// nodes.
func Disk(nodes int) int64 { return controlPlaneDisk + int64(nodes-1)*workerDisk }
