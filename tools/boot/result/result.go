// Package result holds what a run of the boot benchmark measured, and what follows from it.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dind-cluster/dind-cluster/cluster/timeline"
)

// File is the name of the file in the results directory.
const File = "boot.json"

// Run is one run of the benchmark: all ratios are between figures of one run.
type Run struct {
	Started time.Time `json:"started"`
	Machine Machine   `json:"machine"`
	// Image is the name of the image of the clusters.
	Image  string  `json:"image"`
	Starts []Start `json:"starts"`
	Floors []Floor `json:"floors,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	CPUs          int    `json:"cpus"`
	MemoryBytes   int64  `json:"memoryBytes"`
	Kernel        string `json:"kernel"`
	Docker        string `json:"docker"`
	StorageDriver string `json:"storageDriver"`
	CgroupVersion string `json:"cgroupVersion"`
	// Load is the load average of the last minute when the run began: on a machine that has other
	// things to do, the times say little.
	Load float64 `json:"load"`
}

// The names of marks. All but Created and Started are seen from inside the top-level container.
const (
	// Created is when `docker create` had made the container, Started when `docker start` had
	// returned.
	Created = "docker create"
	Started = "docker start"
	// APIReady is when the API server said that it was ready.
	APIReady = "API server ready"
	// FirstNode and AllNodes are when one node and when all nodes were Ready.
	FirstNode = "first node Ready"
	AllNodes  = "all nodes Ready"
	// DNS is when the cluster's DNS service answered.
	DNS = "CoreDNS answers"
	// Pod is when a pod of the test Deployment was Running.
	Pod = "test pod Running"
	// RunnerReady is when the cluster itself said that it was ready: it also waits for DNS on each
	// node and for all pods of kube-system.
	RunnerReady = "cluster says ready"
	// Ready is when all nodes were Ready, DNS answered and the pod was Running.
	Ready = "ready"
)

// Marks are the marks in the order in which they are shown.
var Marks = []string{Created, Started, APIReady, FirstNode, AllNodes, DNS, Pod, RunnerReady, Ready}

// Start is one start of a cluster.
type Start struct {
	// Nodes is the size of the cluster, Round says which of its starts it is, from 1.
	Nodes int `json:"nodes"`
	Round int `json:"round"`
	// Begin is when `docker run` would have begun; marks and details count from there.
	Begin time.Time `json:"begin"`
	// Marks are points in time, as seconds after Begin.
	Marks map[string]Seconds `json:"marks,omitempty"`
	// Timeline is what the runner recorded.
	Timeline timeline.Timeline `json:"timeline,omitzero"`
	// Units and Containers of each node, and of the top-level container (lane "").
	Units      []timeline.Span `json:"units,omitempty"`
	Containers []timeline.Span `json:"containers,omitempty"`
	// Usage is what each node, and the top-level container by itself, takes after the start.
	Usage []Usage `json:"usage,omitempty"`
	// Removed is how long it took to remove the cluster.
	Removed Seconds `json:"removed,omitempty"`
	// Error says why it failed.
	Error string `json:"error,omitempty"`
}

// Usage is what a container takes. Sizes are in bytes.
type Usage struct {
	// Node is the node's name; "" is all that is in the top-level container but in no node.
	Node      string `json:"node,omitempty"`
	Processes int    `json:"processes"`
	// CPU is the processor time of its processes, also of most that have ended.
	CPU Seconds `json:"cpu"`
	// PSS is memory in which a page that several processes share is divided among them.
	PSS int64 `json:"pss"`
	// WorkingSet is what the kubelet calls so: the cgroup's memory without inactive file pages.
	// Shared pages count where they were read first.
	WorkingSet int64 `json:"workingSet"`
	// Written is what its processes, also those that have ended, gave to disks to write.
	Written int64 `json:"written"`
	// Disk is what its own files take: its writable layer and its volumes.
	Disk int64 `json:"disk"`
}

// Kinds of floors.
const (
	// Plain is kubeadm with its own settings, but for what a node in a container must have.
	Plain = "kubeadm init"
	// Tuned is kubeadm with the settings of the clusters under test.
	Tuned = "kubeadm init, settings of dind-cluster"
)

// Floor is what a start cannot do without: the same in a single node container that has booted and
// has all images.
type Floor struct {
	Kind  string    `json:"kind"`
	Round int       `json:"round"`
	Begin time.Time `json:"begin"`
	// Init is how long `kubeadm init` took, Ready how long from its beginning until its node was
	// Ready.
	Init  Seconds `json:"init"`
	Ready Seconds `json:"ready"`
	// Health and Serving are how long etcd and kube-apiserver alone, as plain processes, took until
	// /livez and until /readyz answered well. Zero if it was not measured.
	Health  Seconds `json:"health,omitempty"`
	Serving Seconds `json:"serving,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// Seconds is a duration in seconds.
type Seconds float64

// Since returns the seconds from one point in time to another.
func Since(begin, end time.Time) Seconds { return Seconds(end.Sub(begin).Seconds()) }

// Write writes the run to its file in a directory. The file is complete as soon as it is there.
func (r *Run) Write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, File), append(data, '\n'), 0o644, renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}

// Read reads a file that Write wrote.
func Read(path string) (*Run, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the results: %w", err)
	}
	var r Run
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("reading the results in %s: %w", path, err)
	}
	return &r, nil
}
