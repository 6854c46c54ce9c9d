package settings

// What a cluster takes of Docker's disk while it starts: the control plane, of which etcd's log is the most, with some room for
// pods, and each further node.
const (
	controlPlaneDisk = 1 << 30
	workerDisk       = 100 << 20
)

// Disk returns how much of the disk must be free for a cluster of so many nodes.
func Disk(nodes int) int64 { return controlPlaneDisk + int64(nodes-1)*workerDisk }
