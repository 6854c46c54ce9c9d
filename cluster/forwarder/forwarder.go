// Package forwarder connects to ports of what is in a cluster, from its top-level container. A pod is reached in its own network
// namespace, as the kubelet does it for `kubectl port-forward`: whatever the pod network is, whatever network policies say, and
// what listens on the pod's loopback interface alone.
package forwarder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dind-cluster/dind-cluster/cluster/forward"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// patience bounds the time for one attempt to connect.
const patience = 5 * time.Second

// Forwarder connects to targets.
type Forwarder struct {
	API *kubeapi.Client
	// NodePID returns the process 1 of a node, as this container numbers it.
	NodePID func(ctx context.Context, node string) (int, error)
}

// endpoint is a port of something that is there.
type endpoint struct {
	port int
	// uid is that of a pod in cgroups' names; "" means that addresses are reached from here.
	uid       string
	addresses []string
	// node has the same port on its loopback interface, perhaps only there.
	node string
}

// Dial connects to a target, which is a forward.Target as JSON.
func (f *Forwarder) Dial(ctx context.Context, target []byte) (net.Conn, error) {
	var t forward.Target
	if err := json.Unmarshal(target, &t); err != nil {
		return nil, fmt.Errorf("reading the target: %w", err)
	}
	t.Namespace = cmp.Or(t.Namespace, "default")
	port, endpoints, err := f.resolve(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	if t.Look {
		here, there := net.Pipe()
		go func() {
			fmt.Fprint(there, port)
			there.Close()
		}()
		return here, nil
	}
	var errs []error
	for _, e := range endpoints {
		conn, err := f.connect(ctx, e)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%s, port %s: %w", t, t.Port, errors.Join(errs...))
}

// connect connects to one endpoint.
func (f *Forwarder) connect(ctx context.Context, e endpoint) (net.Conn, error) {
	if e.uid != "" {
		pid, err := podProcess("/proc", e.uid)
		if err != nil {
			return nil, err
		}
		return dialIn(ctx, pid, slices.Concat([]string{"127.0.0.1", "::1"}, e.addresses), e.port)
	}
	conn, err := dial(ctx, e.addresses, e.port)
	if err == nil || e.node == "" {
		return conn, err
	}
	pid, pidErr := f.NodePID(ctx, e.node)
	if pidErr != nil {
		return nil, errors.Join(err, pidErr)
	}
	return dialIn(ctx, pid, []string{"127.0.0.1", "::1"}, e.port)
}

// dial connects to the first of several addresses that answers.
func dial(ctx context.Context, addresses []string, port int) (net.Conn, error) {
	var first error
	for _, a := range addresses {
		conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", net.JoinHostPort(a, strconv.Itoa(port)))
		if err == nil {
			return conn, nil
		}
		first = cmp.Or(first, err)
	}
	return nil, first
}

// dialIn connects from within the network namespace of a process.
func dialIn(ctx context.Context, pid int, addresses []string, port int) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so no other one finds itself in the namespace.
		runtime.LockOSThread()
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer namespace.Close()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("entering the network namespace of process %d: %w", pid, err)}
			return
		}
		conn, err := dial(ctx, addresses, port)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// podProcess returns a process of a pod, by the pod's UID in the names of its cgroups. Of several it is one that is not in a
// container within the pod.
func podProcess(proc, uid string) (int, error) {
	// With the cgroup driver systemd, hyphens are underscores
	// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/cm/cgroup_manager_linux.go).
	names := []string{"pod" + uid, "pod" + strings.ReplaceAll(uid, "-", "_")}
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cgroup"))
	if err != nil {
		return 0, err
	}
	best, depth := 0, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended
		}
		for line := range strings.Lines(string(data)) {
			if !strings.Contains(line, names[0]) && !strings.Contains(line, names[1]) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if d := strings.Count(line, "/"); err == nil && (best == 0 || d < depth || d == depth && pid < best) {
				best, depth = pid, d
			}
			break
		}
	}
	if best == 0 {
		return 0, errors.New("no process of the pod runs")
	}
	return best, nil
}

// pod is the part of a pod that matters here.
type pod struct {
	Metadata kubeapi.Meta `json:"metadata"`
	Spec     struct {
		Containers     []container `json:"containers"`
		InitContainers []container `json:"initContainers"`
	} `json:"spec"`
	Status struct {
		Phase      string              `json:"phase"`
		Conditions []kubeapi.Condition `json:"conditions"`
		PodIPs     []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
	} `json:"status"`
}

type container struct {
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
	} `json:"ports"`
}

// endpoint returns the pod's port of a number or a name.
func (p pod) endpoint(port string) (endpoint, error) {
	e := endpoint{uid: p.Metadata.UID}
	// The kubelet knows static pods by another UID (ConfigHashAnnotationKey in
	// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/types/pod_update.go).
	if hash := p.Metadata.Annotations["kubernetes.io/config.hash"]; hash != "" {
		e.uid = hash
	}
	for _, ip := range p.Status.PodIPs {
		e.addresses = append(e.addresses, ip.IP)
	}
	if n, err := number(port); err == nil {
		e.port = n
		return e, nil
	}
	var names []string
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, have := range c.Ports {
			if have.Name == port {
				e.port = have.ContainerPort
				return e, nil
			}
			if have.Name != "" {
				names = append(names, have.Name)
			}
		}
	}
	return e, fmt.Errorf("pod %s has no port %q: %s", p.Metadata.Name, port, there(names))
}

func there(names []string) string {
	if len(names) == 0 {
		return "none of its ports has a name"
	}
	return "there are " + strings.Join(names, ", ")
}

func number(port string) (int, error) {
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %q: want 1 to 65535 or the name of a port", port)
	}
	return n, nil
}

// resolve returns a target's port, and where to find it: several endpoints are to be tried in their order.
func (f *Forwarder) resolve(ctx context.Context, t forward.Target) (int, []endpoint, error) {
	switch t.Kind {
	case "pod":
		var p pod
		if err := f.get(ctx, "/api/v1/namespaces/"+t.Namespace+"/pods/"+t.Name, &p); err != nil {
			return 0, nil, err
		}
		e, err := p.endpoint(t.Port)
		return e.port, []endpoint{e}, err
	case "service":
		return f.service(ctx, t)
	case "node":
		var n kubeapi.Node
		if err := f.get(ctx, "/api/v1/nodes/"+t.Name, &n); err != nil {
			return 0, nil, err
		}
		port, err := number(t.Port)
		e := endpoint{port: port, node: t.Name}
		for _, a := range n.Status.Addresses {
			if a.Type == "InternalIP" {
				e.addresses = append(e.addresses, a.Address)
			}
		}
		return port, []endpoint{e}, err
	}
	return f.workload(ctx, t)
}

// get reads an object; that there is none is an error that says so.
func (f *Forwarder) get(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f.API.Get(ctx, path, into)
	if kubeapi.NotFound(err) {
		return errors.New("there is none of that name")
	}
	return err
}

// service returns the ready endpoints of a service, in random order, and the service's port.
func (f *Forwarder) service(ctx context.Context, t forward.Target) (int, []endpoint, error) {
	var s struct {
		Spec struct {
			Type  string `json:"type"`
			Ports []struct {
				Name     string `json:"name"`
				Port     int    `json:"port"`
				Protocol string `json:"protocol"`
			} `json:"ports"`
		} `json:"spec"`
	}
	if err := f.get(ctx, "/api/v1/namespaces/"+t.Namespace+"/services/"+t.Name, &s); err != nil {
		return 0, nil, err
	}
	if s.Spec.Type == "ExternalName" {
		return 0, nil, errors.New("it is a name for something outside the cluster")
	}
	port, name, found := 0, "", false
	var have []string
	for _, p := range s.Spec.Ports {
		have = append(have, strings.TrimSuffix(strconv.Itoa(p.Port)+" "+p.Name, " "))
		if !found && (strconv.Itoa(p.Port) == t.Port || p.Name == t.Port) && p.Protocol == "TCP" {
			port, name, found = p.Port, p.Name, true
		}
	}
	if !found {
		return 0, nil, fmt.Errorf("it has no TCP port %s: there are %s", t.Port, strings.Join(have, ", "))
	}
	if t.Look {
		return port, nil, nil
	}
	var list struct{ Items []kubeapi.EndpointSlice }
	if err := f.get(ctx, "/apis/discovery.k8s.io/v1/namespaces/"+t.Namespace+"/endpointslices?labelSelector="+url.QueryEscape("kubernetes.io/service-name="+t.Name), &list); err != nil {
		return 0, nil, err
	}
	var out []endpoint
	for _, slice := range list.Items {
		for _, p := range slice.Ports {
			if p.Name != name || p.Protocol != "TCP" {
				continue
			}
			for _, have := range slice.Endpoints {
				e := endpoint{port: p.Port, addresses: have.Addresses}
				if have.TargetRef != nil && have.TargetRef.Kind == "Pod" {
					e.uid = have.TargetRef.UID
				}
				if have.Ready() {
					out = append(out, e)
				}
			}
		}
	}
	if len(out) == 0 {
		return 0, nil, errors.New("it has no ready endpoints")
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return port, out[:min(len(out), 3)], nil
}

// groups are the API groups of workloads.
var groups = map[string]string{"deployment": "apps", "statefulset": "apps", "daemonset": "apps", "replicaset": "apps", "job": "batch"}

// workload returns a pod of a workload: the oldest one that is ready.
func (f *Forwarder) workload(ctx context.Context, t forward.Target) (int, []endpoint, error) {
	group := groups[t.Kind]
	if group == "" {
		return 0, nil, fmt.Errorf("%q has no ports: want one of %s", t.Kind, strings.Join(forward.Kinds, ", "))
	}
	var w struct {
		Spec struct {
			Selector selector `json:"selector"`
		} `json:"spec"`
	}
	if err := f.get(ctx, fmt.Sprintf("/apis/%s/v1/namespaces/%s/%ss/%s", group, t.Namespace, t.Kind, t.Name), &w); err != nil {
		return 0, nil, err
	}
	var list struct{ Items []pod }
	if err := f.get(ctx, "/api/v1/namespaces/"+t.Namespace+"/pods?labelSelector="+url.QueryEscape(w.Spec.Selector.String()), &list); err != nil {
		return 0, nil, err
	}
	ready := slices.DeleteFunc(list.Items, func(p pod) bool {
		ok, _ := kubeapi.Ready(p.Status.Conditions)
		return !ok || p.Metadata.DeletionTimestamp != nil
	})
	if len(ready) == 0 {
		return 0, nil, fmt.Errorf("none of its %d pods is ready", len(list.Items))
	}
	oldest := slices.MinFunc(ready, func(a, b pod) int {
		return cmp.Or(a.Metadata.CreationTimestamp.Compare(b.Metadata.CreationTimestamp), strings.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	e, err := oldest.endpoint(t.Port)
	return e.port, []endpoint{e}, err
}

// selector is a label selector.
type selector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Values   []string `json:"values"`
	} `json:"matchExpressions"`
}

// String returns the selector as the API server takes it in a query.
func (s selector) String() string {
	var out []string
	for key, value := range s.MatchLabels {
		out = append(out, key+"="+value)
	}
	for _, e := range s.MatchExpressions {
		switch e.Operator {
		case "Exists":
			out = append(out, e.Key)
		case "DoesNotExist":
			out = append(out, "!"+e.Key)
		case "In", "NotIn":
			out = append(out, fmt.Sprintf("%s %s (%s)", e.Key, strings.ToLower(e.Operator), strings.Join(e.Values, ",")))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
