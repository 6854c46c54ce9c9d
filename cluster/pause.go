package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// A whole cluster is paused with `docker pause`, which freezes all processes at once and lets them go
// on at once. What judges others by the time since it last heard of them then finds that time too
// long, before the others had a chance: the controller manager marks nodes as unreachable, and of
// several controller managers another one becomes the leader. So the controllers are held before the
// pause, by a signal that stops them, and go on after it when all nodes have reported, the leaders
// first.
const (
	// patienceForPause is how long the controllers are held for a pause that does not come.
	patienceForPause = time.Minute
	// frozenFor is how long this process must have stood still for that to have been a pause. A shorter
	// one than harmless does no harm: the kubelet calls itself not ready when it has not seen containerd
	// for 30 seconds or its pods for 3 minutes
	// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/runtime.go), the controller
	// manager a node unreachable after 50.
	frozenFor = 2 * time.Second
	harmless  = 20 * time.Second
	// reportTime bounds how long nodes may take to report after a pause. They renew their leases every
	// ten seconds, and their statuses within ten seconds of a change.
	reportTime = time.Minute
)

// held are the components that are held: those that elect leaders.
func held() []string {
	var names []string
	for _, c := range component.Which(component.StaticPod) {
		if c.Waits {
			names = append(names, c.Name)
		}
	}
	return names
}

// signalScript sends a signal to the processes of a static pod on a control plane.
const signalScript = `for id in $(crictl ps --quiet --label io.kubernetes.pod.namespace=kube-system --name "^$2\$"); do
	kill -s "$1" "$(crictl inspect --output go-template --template '{{.info.pid}}' "$id")" || exit
done`

func (c *cluster) signal(ctx context.Context, node, signal, component string) error {
	_, err := c.docker.Exec(ctx, node, "sh", "-c", signalScript, "sh", signal, component)
	return err
}

// pause prepares a pause: it holds the controllers until the pause is over, or does not come.
func (c *cluster) pause(ctx context.Context, r request) (err error) {
	if err := c.answers(ctx); err != nil {
		return err
	}
	var before struct{ Items []kubeapi.Node }
	if err := c.api.Get(ctx, "/api/v1/nodes", &before); err != nil {
		return fmt.Errorf("reading the nodes: %w", err)
	}
	var ready []string
	for _, n := range before.Items {
		if ok, _ := kubeapi.Ready(n.Status.Conditions); ok {
			ready = append(ready, n.Metadata.Name)
		}
	}
	step := r.log.Step("holding the controllers")
	if err := os.WriteFile(paths.Held, nil, 0o600); err != nil {
		return err
	}
	for _, n := range c.topology.ControlPlanes() {
		for _, name := range held() {
			if slices.Contains(ready, n.Name) {
				err = errors.Join(err, c.signal(ctx, n.Name, "STOP", name))
			}
		}
	}
	if err != nil {
		step.Fail("")
		c.letGo(context.WithoutCancel(ctx))
		return err
	}
	step.Done("")
	release := r.keep()
	wake, thawed := make(chan struct{}), make(chan struct{})
	c.mu.Lock()
	c.thaw, c.thawed = sync.OnceFunc(func() { close(wake) }), thawed
	c.mu.Unlock()
	go func() {
		defer release()
		defer close(thawed)
		c.outlast(context.WithoutCancel(ctx), wake, ready)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.thaw = nil
	}()
	return nil
}

// unpause ends what pause has prepared, and waits until the controllers go on.
func (c *cluster) unpause(ctx context.Context) error {
	c.mu.Lock()
	thaw, thawed := c.thaw, c.thawed
	c.mu.Unlock()
	if thaw == nil {
		return nil
	}
	thaw()
	select {
	case <-thawed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// outlast waits for the end of a pause and lets the controllers go on.
func (c *cluster) outlast(ctx context.Context, wake <-chan struct{}, ready []string) {
	begin := time.Now()
	since, frozen := begin, time.Duration(0)
	for last := begin; ; last = time.Now() {
		select {
		case <-wake:
		case <-time.After(again):
		}
		since = time.Now()
		if gap := since.Sub(last); gap >= frozenFor {
			c.log.Printf("the cluster was paused for %v", progress.Duration(gap))
			frozen = gap
			break
		}
		select {
		case <-wake:
		default:
			if since.Sub(begin) < patienceForPause {
				continue
			}
			c.log.Printf("no pause came within %v: the controllers go on", patienceForPause)
		}
		break
	}
	waiting, cancel := context.WithTimeoutCause(ctx, reportTime, fmt.Errorf("they did not within %v", reportTime))
	defer cancel()
	if frozen > harmless {
		if err := c.waitForReports(waiting, ready, since); err != nil {
			c.log.Printf("after the pause: %v", err)
		}
	}
	c.letGo(ctx)
}

// lease is the part of a lease that matters here (coordination.k8s.io/v1).
type lease struct {
	Metadata kubeapi.Meta `json:"metadata"`
	Spec     struct {
		HolderIdentity string    `json:"holderIdentity"`
		RenewTime      time.Time `json:"renewTime"`
	} `json:"spec"`
}

func (l lease) Meta() kubeapi.Meta { return l.Metadata }

const leases = "/apis/coordination.k8s.io/v1/namespaces/"

// waitForReports waits until nodes have renewed their leases since a time, and are ready by what their
// kubelets found since. At first these may find that they have not seen their pods for too long, and
// they look again ten seconds later. One that finds nothing new does not report its status, but has
// looked when it renews its lease for the second time.
func (c *cluster) waitForReports(ctx context.Context, ready []string, since time.Time) error {
	renewals := map[string]map[time.Time]bool{}
	reported := map[string]bool{}
	for {
		var leaseList struct{ Items []lease }
		var nodeList struct{ Items []kubeapi.Node }
		err := errors.Join(c.api.Get(ctx, leases+"kube-node-lease/leases", &leaseList), c.api.Get(ctx, "/api/v1/nodes", &nodeList))
		for _, l := range leaseList.Items {
			if name := l.Metadata.Name; !l.Spec.RenewTime.Before(since) {
				if renewals[name] == nil {
					renewals[name] = map[time.Time]bool{}
				}
				renewals[name][l.Spec.RenewTime] = true
			}
		}
		left := map[string]string{}
		for _, name := range ready {
			left[name] = "it is gone"
		}
		for _, n := range nodeList.Items {
			name := n.Metadata.Name
			if left[name] == "" {
				continue
			}
			for _, condition := range n.Status.Conditions {
				reported[name] = reported[name] || condition.Type == "Ready" && condition.LastHeartbeatTime.After(since)
			}
			ok, why := kubeapi.Ready(n.Status.Conditions)
			switch times := len(renewals[name]); {
			case !ok:
				left[name] = why
			case times == 0 || times == 1 && !reported[name]:
				left[name] = "it has not reported yet"
			default:
				delete(left, name)
			}
		}
		if err == nil && len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nodes were to report: %v: %w", left, errors.Join(context.Cause(ctx), err))
		case <-time.After(again):
		}
	}
}

// letGo has the controllers go on: of each, the leader first, and the others when it has renewed its
// lease.
func (c *cluster) letGo(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	for _, name := range held() {
		leader, others := c.leader(ctx, name)
		since := time.Now()
		if leader != "" {
			c.logError(c.signal(ctx, leader, "CONT", name))
			c.logError(c.waitForLeader(ctx, name, since))
		}
		for _, n := range others {
			c.logError(c.signal(ctx, n, "CONT", name))
		}
	}
	if err := os.Remove(paths.Held); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.logError(err)
	}
}

func (c *cluster) logError(err error) {
	if err != nil {
		c.log.Printf("letting the controllers go on: %v", err)
	}
}

// leader returns the control plane that is a component's leader, and the others; none is if there is
// no election.
func (c *cluster) leader(ctx context.Context, component string) (leader string, others []string) {
	all := topology.Names(c.current().ControlPlanes())
	if !c.current().Balanced() || c.api == nil {
		return "", all
	}
	var l lease
	if err := c.api.Get(ctx, leases+"kube-system/leases/"+component, &l); err != nil {
		return "", all
	}
	// HOST_UUID
	leader, _, _ = strings.Cut(l.Spec.HolderIdentity, "_")
	if !slices.Contains(all, leader) {
		return "", all
	}
	return leader, slices.DeleteFunc(all, func(n string) bool { return n == leader })
}

// waitForLeader waits until a component's lease was renewed since a time, for as long as that takes
// if there still is a leader.
func (c *cluster) waitForLeader(ctx context.Context, component string, since time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, fmt.Errorf("the leader of %s has not renewed its lease", component))
	defer cancel()
	return kubeapi.Follow(ctx, c.api, leases+"kube-system/leases", func(found map[string]lease) bool {
		return !found["kube-system/"+component].Spec.RenewTime.Before(since)
	})
}
