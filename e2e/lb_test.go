package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/cluster/forward"
	"github.com/dind-cluster/dind-cluster/cluster/host"
)

// The load balancer has two addresses: the third service gets none.
const twoAddresses = `
apiVersion: dind-cluster.github.io/v1alpha1
kind: Cluster
nodes:
- role: control-plane
- role: worker
networking:
  loadBalancerSubnets: [10.251.0.0/30]
`

// service is what the tests look at in a service.
type service struct {
	Status struct {
		LoadBalancer struct{ Ingress []struct{ IP, IPMode string } }
	}
}

func (s service) address() string {
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		return ""
	}
	return s.Status.LoadBalancer.Ingress[0].IP
}

func (b *box) service(ctx context.Context, t *testing.T, name string) service {
	t.Helper()
	var s service
	decode(t, b.kubectl(ctx, t, "get", "service", name, "--output=json"), &s)
	return s
}

func (b *box) waitAddress(ctx context.Context, t *testing.T, name, want string) {
	t.Helper()
	b.waitFor(ctx, t, "the address of service "+name, func() error {
		if got := b.service(ctx, t, name).address(); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// ask sends a web pod's question from the top-level container, by the bash of the image.
func (b *box) ask(ctx context.Context, address, path string) (string, error) {
	script := fmt.Sprintf(`exec 3<>/dev/tcp/%s/80 && printf 'GET %s HTTP/1.0\r\n\r\n' >&3 && sed '1,/^\r$/d' <&3`, address, path)
	out, err := b.launcher.Docker.Exec(ctx, b.name, "timeout", "10", "bash", "-c", script)
	return string(out), err
}

// TestLoadBalancer follows services of type LoadBalancer, and forwards ports to the host.
func TestLoadBalancer(t *testing.T) {
	ctx, m := newMachine(t)
	o := m.options(t, "lb", 0)
	o.Config = &host.ConfigFile{Name: "lb.yaml", Data: []byte(twoAddresses)}
	b := m.create(ctx, t, o)
	b.load(ctx, t, "AGNHOST")
	image := b.testImage(ctx, t, "registry.k8s.io/e2e-test-images/agnhost")
	step := steps(t)
	step("address", func(t *testing.T) { testAddress(ctx, t, b, image) })
	step("local traffic policy", func(t *testing.T) { testLocal(ctx, t, b) })
	step("exhaustion and deletion", func(t *testing.T) { testExhaustion(ctx, t, b) })
	step("forward", func(t *testing.T) { testForward(ctx, t, b, image) })
	step("restart", func(t *testing.T) {
		first, second := b.service(ctx, t, "web").address(), b.service(ctx, t, "second").address()
		b.restart(ctx, t)
		b.waitFor(ctx, t, "the service after a restart", func() error { _, err := b.ask(ctx, first, "/hostname"); return err })
		if f, s := b.service(ctx, t, "web").address(), b.service(ctx, t, "second").address(); f != first || s != second {
			t.Errorf("the addresses were %s and %s, and are %s and %s", first, second, f, s)
		}
	})
}

func testAddress(ctx context.Context, t *testing.T, b *box, image string) {
	b.kubectl(ctx, t, "create", "deployment", "web", "--image="+image, "--replicas=2", "--", "/agnhost", "netexec")
	b.kubectl(ctx, t, "expose", "deployment", "web", "--type=LoadBalancer", "--port=80", "--target-port=8080")
	b.kubectl(ctx, t, "wait", "--for=condition=Available", "deployment/web", "--timeout=60s")
	b.kubectl(ctx, t, "wait", "--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "service/web", "--timeout=30s")
	s := b.service(ctx, t, "web")
	if s.address() != "10.251.0.1" || s.Status.LoadBalancer.Ingress[0].IPMode != "VIP" {
		t.Fatalf("got %+v", s)
	}
	b.waitFor(ctx, t, "from the top-level container", func() error {
		name, err := b.ask(ctx, s.address(), "/hostname")
		if err == nil && !strings.HasPrefix(name, "web-") {
			err = fmt.Errorf("%q answers", name)
		}
		return err
	})
	web := b.pods(ctx, t, "--selector=app=web")
	if name := b.dial(ctx, t, web[0], "http", s.address(), 80); !strings.HasPrefix(name, "web-") {
		t.Errorf("from a pod: %q answers", name)
	}
	// A port that the service does not have, and an address that no service has, are refused at once.
	for _, where := range []string{"10.251.0.1/81", "10.251.0.2/80"} {
		begin := time.Now()
		out, err := b.launcher.Docker.Exec(ctx, b.name, "timeout", "30", "bash", "-c", "exec 3<>/dev/tcp/"+where)
		if err == nil || !strings.Contains(err.Error(), "refused") || time.Since(begin) > b.patience*10*time.Second {
			t.Errorf("%s: %s, %v after %v, want a refusal", where, out, err, time.Since(begin))
		}
	}
}

// testLocal has a service go to nodes with endpoints alone, which see the client's address.
func testLocal(ctx context.Context, t *testing.T, b *box) {
	b.kubectl(ctx, t, "patch", "service", "web", "--patch", `{"spec":{"externalTrafficPolicy":"Local"}}`)
	gateway := strings.TrimSpace(b.exec(ctx, t, "sh", "-c", "ip -json -4 address show dev nodes | sed 's/.*\"local\":\"\\([^\"]*\\)\".*/\\1/'"))
	b.waitFor(ctx, t, "the client's address", func() error {
		got, err := b.ask(ctx, "10.251.0.1", "/clientip")
		if err == nil && !strings.HasPrefix(got, gateway+":") {
			err = fmt.Errorf("got %q, want %s", got, gateway)
		}
		return err
	})
	route := func() string { return b.exec(ctx, t, "ip", "route", "show", "10.251.0.1") }
	b.kubectl(ctx, t, "scale", "deployment", "web", "--replicas=0")
	b.waitFor(ctx, t, "the route of a service without endpoints", func() error {
		if r := route(); !strings.Contains(r, "dev lo") {
			return fmt.Errorf("it is %s", r)
		}
		return nil
	})
	b.kubectl(ctx, t, "scale", "deployment", "web", "--replicas=2")
	b.waitFor(ctx, t, "endpoints again", func() error { _, err := b.ask(ctx, "10.251.0.1", "/hostname"); return err })
	b.kubectl(ctx, t, "patch", "service", "web", "--patch", `{"spec":{"externalTrafficPolicy":"Cluster"}}`)
}

func testExhaustion(ctx context.Context, t *testing.T, b *box) {
	b.kubectl(ctx, t, "create", "service", "loadbalancer", "first", "--tcp=80")
	b.waitAddress(ctx, t, "first", "10.251.0.2")
	b.kubectl(ctx, t, "create", "service", "loadbalancer", "second", "--tcp=80")
	b.waitFor(ctx, t, "the event of a service without an address", func() error {
		events := b.kubectl(ctx, t, "get", "events", "--field-selector=involvedObject.name=second", "--output=jsonpath={.items[*].message}")
		if !strings.Contains(events, "all IPv4 addresses of this cluster's load balancer are taken") {
			return fmt.Errorf("the events are %q", events)
		}
		return nil
	})
	if a := b.service(ctx, t, "second").address(); a != "" {
		t.Errorf("the third service has %s", a)
	}
	b.kubectl(ctx, t, "delete", "service", "first", "--timeout=30s")
	b.waitAddress(ctx, t, "second", "10.251.0.2")
}

// testForward reaches a service, a pod and a node from the host.
func testForward(ctx context.Context, t *testing.T, b *box, image string) {
	b.kubectl(ctx, t, "run", "alone", "--image="+image, "--command", "--", "sh", "-c", "while :; do echo inside | nc -N -l 127.0.0.1 9000; done")
	b.kubectl(ctx, t, "wait", "--for=condition=Ready", "pod/alone", "--timeout=60s")
	// It returns what comes, and ends its output after the end of its input, on the node's loopback interface alone.
	b.exec(ctx, t, "docker", "exec", "--detach", "worker1", "systemd-socket-activate", "--accept", "--inetd", "-l", "127.0.0.1:9000", "cat")
	address := func(target string, port string) string {
		t.Helper()
		parsed, err := forward.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		parsed.Namespace = "default"
		r, w := io.Pipe()
		forwarding, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			err := b.launcher.Forward(forwarding, b.name, parsed, []host.ForwardPort{{Local: 0, Remote: port}}, []string{"127.0.0.1"}, w)
			w.CloseWithError(err)
			done <- err
		}()
		t.Cleanup(func() { stop(); <-done })
		lines := bufio.NewReader(r)
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, lines) }()
		at, _, _ := strings.Cut(line, " -> ")
		return at
	}
	web := address("svc/web", "80")
	begin := time.Now()
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			resp, err := (&http.Client{Transport: &http.Transport{}, Timeout: b.patience * 20 * time.Second}).Get("http://" + web + "/hostname")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if name, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(name), "web-") {
				t.Errorf("got %q, %v", name, err)
			}
		})
	}
	wait.Wait()
	t.Logf("20 connections at once took %v", time.Since(begin))

	kubelet := address("node/worker1", "10248")
	resp, err := http.Get("http://" + kubelet + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the kubelet's health, which is on the node's loopback interface, is %s", resp.Status)
	}
	alone := address("pod/alone", "9000")
	b.waitFor(ctx, t, "a pod's loopback interface", func() error {
		conn, err := net.Dial("tcp", alone)
		if err != nil {
			return err
		}
		defer conn.Close()
		if text, err := io.ReadAll(conn); err != nil || string(text) != "inside\n" {
			return fmt.Errorf("got %q, %v", text, err)
		}
		return nil
	})
	testTransfer(ctx, t, b, address("node/worker1", "9000"))
}

// testTransfer sends a large file through a forwarded port and gets it back whole, half of it after the end of the input.
func testTransfer(ctx context.Context, t *testing.T, b *box, address string) {
	const size = 64 << 20
	b.waitFor(ctx, t, "a large transfer", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		begin := time.Now()
		sent, got := sha256.New(), sha256.New()
		writing := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.MultiWriter(conn, sent), rand.Reader, size)
			if err == nil {
				err = conn.(*net.TCPConn).CloseWrite()
			}
			writing <- err
		}()
		n, err := io.Copy(got, conn)
		if err := errors.Join(err, <-writing); err != nil {
			return err // it does not listen yet
		}
		if n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
			t.Fatalf("%d of %d bytes came back, with sum %x, want %x", n, size, got.Sum(nil), sent.Sum(nil))
		}
		took := time.Since(begin)
		t.Logf("%d MiB there and back in %v: %.0f MiB/s each way", size>>20, took, float64(size>>20)/took.Seconds())
		return nil
	})
}
