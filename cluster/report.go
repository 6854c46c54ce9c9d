package cluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/component"
	"github.com/dind-cluster/dind-cluster/cluster/control"
	"github.com/dind-cluster/dind-cluster/cluster/nodes"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
	"github.com/dind-cluster/dind-cluster/cluster/topology"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"golang.org/x/sync/errgroup"
)

// Report is what `status --output json` prints. Fields are added to it, and none is taken away or
// changes its meaning: docs/nodes.md has them.
type Report struct {
	// Version is the Kubernetes version of the API server, "" if it does not answer.
	Version string `json:"version"`
	// Ready reports whether the cluster has come up, its API server answers and all nodes are ready;
	// Message says what is missing.
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
	// Paused reports whether the cluster is paused, or the controllers are held for a pause.
	Paused bool `json:"paused"`
	// Endpoint is the URL of the API server for nodes and pods.
	Endpoint string `json:"endpoint"`
	// LoadBalanced reports whether there is a load balancer before the API servers, so that control
	// planes can be added.
	LoadBalanced bool         `json:"loadBalanced"`
	Nodes        []NodeReport `json:"nodes"`
	// Components are static pods, one for each control plane, and the pods of kube-proxy and CoreDNS.
	Components []ComponentReport `json:"components"`
	// Certificates are those of the authorities, of the administrator, of the API servers and of the
	// kubelets.
	Certificates []CertificateReport `json:"certificates"`
}

// NodeReport is one node in a Report.
type NodeReport struct {
	Name string `json:"name"`
	// Role is control-plane or worker.
	Role string `json:"role"`
	// State is that of the node's container: running, exited, paused, …; missing if there is none.
	// joining and leaving are nodes that are being added and removed.
	State string `json:"state"`
	// Ready is the condition of the Node object, and Message says why it is not.
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
	// Schedulable reports whether the node takes pods, as far as cordoning goes.
	Schedulable bool `json:"schedulable"`
	// Created is when the Node object was made, null if there is none.
	Created *time.Time `json:"created"`
	// Version is that of the kubelet.
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"`
	PodCIDRs  []string `json:"podCIDRs"`
}

// ComponentReport is one pod of a component in a Report.
type ComponentReport struct {
	Name     string `json:"name"`
	Node     string `json:"node"`
	Ready    bool   `json:"ready"`
	Message  string `json:"message,omitempty"`
	Restarts int    `json:"restarts"`
}

// CertificateReport is one certificate in a Report.
type CertificateReport struct {
	Name string `json:"name"`
	// Node is the node that serves with it, "" if it is the cluster's.
	Node    string    `json:"node,omitempty"`
	Expires time.Time `json:"expires"`
}

// statusTime bounds what a report waits for.
const statusTime = 5 * time.Second

// MakeReport looks at the cluster. What does not answer is missing in the report; an error means that
// there is no cluster yet.
func MakeReport(ctx context.Context) (Report, error) {
	s, err := loadState(paths.State)
	if err != nil {
		if phase, readErr := os.ReadFile(paths.Phase); readErr == nil {
			return Report{}, fmt.Errorf("the cluster is not there yet: %s", strings.TrimSpace(string(phase)))
		}
		return Report{}, err
	}
	client, err := docker.Find()
	if err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	r := Report{Endpoint: "https://" + s.Topology.Endpoint.String(), LoadBalanced: s.Topology.Balanced()}
	_, err = os.Stat(paths.Held)
	r.Paused = err == nil
	var containers []docker.Summary
	var list struct{ Items []kubeapi.Node }
	var pods struct{ Items []kubeapi.Pod }
	var group errgroup.Group
	c := &cluster{state: s, topology: s.Topology}
	if err := c.connect(); err != nil {
		return Report{}, err
	}
	group.Go(func() (err error) { containers, err = nodes.All(ctx, client); return err })
	group.Go(func() error {
		if err := Health(ctx, v1alpha1.HealthNodes); err != nil {
			r.Message = err.Error()
		}
		return nil
	})
	group.Go(func() error {
		var v struct {
			GitVersion string `json:"gitVersion"`
		}
		_ = c.api.Get(ctx, "/version", &v)
		r.Version = v.GitVersion
		_ = c.api.Get(ctx, "/api/v1/nodes", &list)
		_ = c.api.Get(ctx, "/api/v1/namespaces/kube-system/pods", &pods)
		return nil
	})
	group.Go(func() error { r.Certificates = certificates(ctx, s); return nil })
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	r.Ready = r.Message == ""
	r.Nodes = nodeReports(s, containers, list.Items)
	r.Components = componentReports(pods.Items)
	return r, nil
}

func nodeReports(s *state, containers []docker.Summary, registered []kubeapi.Node) []NodeReport {
	out := []NodeReport{}
	add := func(n topology.Node, state string) {
		r := NodeReport{Name: n.Name, Role: n.Role, State: "missing", Addresses: texts(n.IPs), PodCIDRs: texts(n.PodCIDRs), Message: "it is not registered"}
		for _, c := range containers {
			if c.Names == n.Name {
				r.State = c.State
			}
		}
		r.State = cmp.Or(state, r.State)
		for _, have := range registered {
			if have.Metadata.Name == n.Name {
				r.Ready, r.Message = kubeapi.Ready(have.Status.Conditions)
				r.Schedulable = !have.Spec.Unschedulable
				r.Created = &have.Metadata.CreationTimestamp
				r.Version = have.Status.NodeInfo.KubeletVersion
			}
		}
		if r.Ready && r.State != "running" {
			// The control plane notices only after a while.
			r.Ready, r.Message = false, "its container is "+r.State
		}
		out = append(out, r)
	}
	for _, n := range s.Topology.Nodes {
		state := ""
		if !slices.Contains(s.Joined, n.Name) {
			state = "joining"
		}
		add(n, state)
	}
	for _, n := range s.Leaving {
		add(n, "leaving")
	}
	return out
}

func texts[T fmt.Stringer](all []T) []string {
	out := []string{}
	for _, a := range all {
		out = append(out, a.String())
	}
	return out
}

func componentReports(pods []kubeapi.Pod) []ComponentReport {
	out := []ComponentReport{}
	for _, p := range pods {
		name := p.Metadata.Labels["component"]
		if !p.Static() {
			name = ""
			for _, c := range component.Which(component.AddOn) {
				if c.App == p.Metadata.Labels["k8s-app"] {
					name = c.Name
				}
			}
		}
		if name == "" {
			continue
		}
		r := ComponentReport{Name: name, Node: p.Spec.NodeName}
		r.Ready, r.Message = podReady(p, func(time.Time) bool { return true })
		for _, s := range p.Status.ContainerStatuses {
			r.Restarts += s.RestartCount
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b ComponentReport) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Node, b.Node))
	})
	return out
}

// certificates returns when the cluster's certificates end. Those that servers have are looked at
// where they serve.
func certificates(ctx context.Context, s *state) []CertificateReport {
	out := []CertificateReport{}
	for _, p := range []struct {
		name string
		cert []byte
	}{
		{"ca", s.Secrets.CA.Cert}, {"etcd-ca", s.Secrets.Shared.EtcdCA.Cert}, {"front-proxy-ca", s.Secrets.Shared.FrontProxyCA.Cert},
		{"admin", s.Secrets.Admin.Cert},
	} {
		if block, _ := pem.Decode(p.cert); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				out = append(out, CertificateReport{Name: p.name, Expires: cert.NotAfter})
			}
		}
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, n := range s.Topology.Nodes {
		servers := map[string]int{"kubelet": kubeletPort}
		if n.Role == topology.ControlPlane {
			servers["kube-apiserver"] = v1alpha1.APIServerPort
		}
		for name, port := range servers {
			group.Go(func() error {
				// It is only read, not trusted.
				d := tls.Dialer{NetDialer: &net.Dialer{Timeout: statusTime / 2}, Config: &tls.Config{InsecureSkipVerify: true}}
				conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.IPs[0].String(), strconv.Itoa(port)))
				if err != nil {
					return nil
				}
				defer conn.Close()
				mu.Lock()
				defer mu.Unlock()
				for _, cert := range conn.(*tls.Conn).ConnectionState().PeerCertificates[:1] {
					out = append(out, CertificateReport{Name: name, Node: n.Name, Expires: cert.NotAfter})
				}
				return nil
			})
		}
	}
	_ = group.Wait()
	slices.SortStableFunc(out, func(a, b CertificateReport) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Name, b.Name))
	})
	return out
}

const kubeletPort = 10250

// printStatus answers control.Status and control.List.
func printStatus(ctx context.Context, r control.Request, emit func(control.Event)) error {
	if err := v1alpha1.OneOf(r.Output, "text", "json"); err != nil {
		return control.Usage("--output %q: %v", r.Output, err)
	}
	report, err := MakeReport(ctx)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	switch {
	case r.Output == "json":
		var what any = report
		if r.Verb == control.List {
			what = report.Nodes
		}
		data, err := json.MarshalIndent(what, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s\n", data)
	case r.Verb == control.List:
		report.writeNodes(&out, time.Now())
	default:
		report.write(&out, time.Now())
	}
	emit(control.Event{Output: out.String()})
	return nil
}

func (r Report) write(out *bytes.Buffer, now time.Time) {
	state := "ready"
	switch {
	case r.Paused:
		state = "held for a pause"
	case !r.Ready:
		state = r.Message
	}
	fmt.Fprintf(out, "cluster: %s\nversion: %s\nAPI server: %s", state, cmp.Or(r.Version, "unknown"), r.Endpoint)
	if r.LoadBalanced {
		out.WriteString(", a load balancer")
	}
	out.WriteString("\n\n")
	r.writeNodes(out, now)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "\nCOMPONENT\tNODE\tREADY\tRESTARTS\n")
	for _, c := range r.Components {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", c.Name, c.Node, yes(c.Ready, c.Message), c.Restarts)
	}
	w.Flush()
	fmt.Fprint(w, "\nCERTIFICATE\tNODE\tEXPIRES\n")
	for _, c := range r.Certificates {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, cmp.Or(c.Node, "-"), c.Expires.UTC().Format(time.DateOnly))
	}
	w.Flush()
}

func (r Report) writeNodes(out *bytes.Buffer, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "NODE\tROLE\tSTATE\tREADY\tAGE\tVERSION\tADDRESSES\n")
	for _, n := range r.Nodes {
		age := "-"
		if n.Created != nil {
			age = now.Sub(*n.Created).Truncate(time.Second).String()
		}
		ready := yes(n.Ready, n.Message)
		if n.Ready && !n.Schedulable {
			ready += ", takes no pods"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Role, n.State, ready, age, cmp.Or(n.Version, "-"), strings.Join(n.Addresses, ","))
	}
	w.Flush()
}

func yes(ok bool, why string) string {
	if ok {
		return "yes"
	}
	return "no: " + why
}
