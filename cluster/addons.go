package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/addon"
	"github.com/dind-cluster/dind-cluster/cluster/manifest"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"github.com/dind-cluster/dind-cluster/internal/progress"
)

// AddonStatus says how far an add-on is in this start.
type AddonStatus struct {
	Name string `json:"name"`
	// State is "starting", "up", "late", which it is after its deadline until it is up, or "removed": it was deleted from the cluster.
	State string `json:"state"`
	// Reason is why it is late.
	Reason string `json:"reason,omitempty"`
}

func (s AddonStatus) String() string {
	text := "add-on " + s.Name + ": " + s.State
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

// Addons returns the state of all add-ons of the running cluster. There are none before it is ready.
func Addons() ([]AddonStatus, error) {
	data, err := os.ReadFile(paths.Addons)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []AddonStatus
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("reading %s: %w", paths.Addons, err)
	}
	return list, nil
}

// addons are the cluster's add-ons while they come up.
type addons struct {
	c      *cluster
	mu     sync.Mutex
	status []AddonStatus
}

// bringUpAddons applies the add-ons that the cluster asks for and has not had yet, and waits until each of them is up or ctx
// ends. One that was applied in an earlier start is as people have left it.
func (c *cluster) bringUpAddons(ctx context.Context) {
	list := addon.Of(c.settings)
	a := &addons{c: c}
	for _, one := range list {
		a.status = append(a.status, AddonStatus{Name: one.Name, State: "starting"})
	}
	a.write()
	var all sync.WaitGroup
	for i, one := range list {
		all.Go(func() { a.bringUp(ctx, i, one) })
	}
	all.Wait()
}

func (a *addons) set(i int, state, reason string) {
	a.mu.Lock()
	a.status[i].State, a.status[i].Reason = state, reason
	a.mu.Unlock()
	a.write()
}

func (a *addons) write() {
	a.mu.Lock()
	defer a.mu.Unlock()
	data, err := json.Marshal(a.status)
	if err == nil {
		err = renameio.WriteFile(paths.Addons, data, 0o644)
	}
	if err != nil {
		a.c.log.Printf("saving the state of the add-ons: %v", err)
	}
}

var errAddonRemoved = errors.New("it was deleted from the cluster")

func (a *addons) bringUp(ctx context.Context, i int, one addon.Addon) {
	c, begin := a.c, time.Now()
	limit := time.Duration(c.settings.Start.Timeout)
	// Without a pod network, it may take a person's work until pods run.
	patient := c.topology.Networks.PodNetwork == v1alpha1.PodNetworkNone
	try, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not up within %v", limit))
	err := a.apply(try, one)
	if err == nil {
		if patient {
			cancel()
			c.log.Printf("add-on %s is applied; it comes up when there is a pod network", one.Name)
			try, cancel = context.WithCancel(ctx)
		}
		err = c.waitForAddon(try, one)
	}
	cancel()
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, errAddonRemoved):
		a.set(i, "removed", "")
		c.log.Printf("add-on %s: %v, and stays away", one.Name, err)
		return
	case err != nil:
		a.set(i, "late", err.Error())
		c.log.Printf("add-on %s: %v", one.Name, err)
		c.explainAddon(ctx, one)
		// It may come yet, when a person has seen to it. Nothing hangs on it.
		if a.apply(ctx, one) != nil || c.waitForAddon(ctx, one) != nil {
			return
		}
	}
	a.set(i, "up", "")
	c.log.Printf("add-on %s is up (%s after the cluster)", one.Name, progress.Duration(time.Since(begin)))
}

// apply applies an add-on, once in the cluster's life.
func (a *addons) apply(ctx context.Context, one addon.Addon) error {
	c := a.c
	c.mu.Lock()
	applied := slices.Contains(c.state.Addons, one.Name)
	c.mu.Unlock()
	if applied {
		return nil
	}
	documents, err := manifest.Parse("add-on "+one.Name, one.Manifest)
	if err != nil {
		return err
	}
	if err := manifest.Apply(ctx, c.api, documents); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Addons = append(c.state.Addons, one.Name)
	slices.Sort(c.state.Addons)
	return c.state.save(paths.State)
}

// waitForAddon waits until a pod of the add-on is ready, in containers of this start, and its API answers.
func (c *cluster) waitForAddon(ctx context.Context, one addon.Addon) error {
	err := c.api.Get(ctx, "/apis/apps/v1/namespaces/"+one.Namespace+"/deployments/"+one.Deployment, nil)
	if kubeapi.NotFound(err) {
		return errAddonRemoved
	}
	since := c.since()
	why := "no pod appears"
	err = kubeapi.Follow(ctx, c.api, "/api/v1/namespaces/"+one.Namespace+"/pods", func(all map[string]kubeapi.Pod) bool {
		ready := false
		for _, p := range ofAddon(all, one) {
			var reason string
			if ready, reason = podReady(p, since); ready {
				break
			}
			why = p.Metadata.Name + ": " + reason
		}
		return ready
	})
	if err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	// One that ends as soon as it has started, again and again, is ready in between, but not available (minReadySeconds).
	err = kubeapi.Follow(ctx, c.api, "/apis/apps/v1/namespaces/"+one.Namespace+"/deployments", func(all map[string]deployment) bool {
		return all[one.Namespace+"/"+one.Deployment].Status.AvailableReplicas > 0
	})
	if err != nil {
		return fmt.Errorf("its pods do not keep running: %w", err)
	}
	if one.API == "" {
		return nil
	}
	return c.api.WaitFor(ctx, one.API)
}

// deployment is the part of a Deployment that tells whether it works.
type deployment struct {
	Metadata kubeapi.Meta `json:"metadata"`
	Status   struct {
		AvailableReplicas int `json:"availableReplicas"`
	} `json:"status"`
}

// Meta returns the Deployment's metadata.
func (d deployment) Meta() kubeapi.Meta { return d.Metadata }

// ofAddon returns the pods of an add-on that are not on their way out.
func ofAddon(all map[string]kubeapi.Pod, one addon.Addon) []kubeapi.Pod {
	key, value, _ := strings.Cut(one.App, "=")
	var out []kubeapi.Pod
	for _, p := range all {
		if p.Metadata.Labels[key] == value && p.Metadata.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b kubeapi.Pod) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return out
}

// explainAddon prints what the add-on's pods have written last, and what keeps them from running.
func (c *cluster) explainAddon(ctx context.Context, one addon.Addon) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var pods struct{ Items []kubeapi.Pod }
	if err := c.api.Get(ctx, "/api/v1/namespaces/"+one.Namespace+"/pods", &pods); err != nil {
		c.log.Printf("    its pods cannot be read: %v", err)
		return
	}
	all := map[string]kubeapi.Pod{}
	for _, p := range pods.Items {
		all[p.Metadata.Name] = p
	}
	for _, p := range ofAddon(all, one) {
		for _, condition := range p.Status.Conditions {
			if condition.Status != "True" && condition.Message != "" {
				c.log.Printf("    %s: %s: %s", p.Metadata.Name, condition.Reason, condition.Message)
			}
		}
		for _, s := range p.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && w.Message != "" {
				c.log.Printf("    %s: %s: %s", p.Metadata.Name, w.Reason, w.Message)
			}
			text, err := c.api.Log(ctx, one.Namespace, p.Metadata.Name, s.Name, 15)
			if err != nil {
				continue // It has not started: that is said above.
			}
			for line := range strings.Lines(text) {
				c.log.Printf("    %s: %s", s.Name, strings.TrimRight(line, "\n"))
			}
		}
	}
	c.log.Printf("    more: kubectl describe pods --namespace=%s --selector=%s", one.Namespace, one.App)
}

// addonArgs returns the options of `docker run` that a node has for the sake of add-ons.
func addonArgs(s v1alpha1.Cluster, n topology.Node) []string {
	// A directory of the user's in the same place is as good.
	users := slices.ContainsFunc(n.Mounts, func(m topology.Mount) bool { return m.Target == addon.VolumesDir })
	if !s.Addons.StorageClass || users {
		return nil
	}
	return []string{"--volume", addon.VolumesDir}
}
