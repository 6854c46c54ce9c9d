package rules_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// probeVariable makes the test program the one that an action runs: it tries to reach what the
// variable lists, and writes to a file what became of it.
const probeVariable = "NETWORK_TEST_PROBE"

// greeting is what a connection that gets through receives, hostName what the name server knows.
const greeting, hostName = "hello", "host.test."

// probeTimeout for one try. Without a network it fails at once.
const probeTimeout = 5 * time.Second

func TestMain(m *testing.M) {
	if text := os.Getenv(probeVariable); text != "" {
		if err := probe(text, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// probe tries addresses, written as KIND=ADDRESS, and writes KIND and "" or what went wrong as
// JSON.
func probe(addresses, output string) error {
	results := map[string]string{}
	for _, one := range strings.Fields(addresses) {
		kind, address, _ := strings.Cut(one, "=")
		results[kind] = ""
		if err := try(kind, address); err != nil {
			results[kind] = err.Error()
		}
	}
	text, err := json.Marshal(results)
	if err != nil {
		return err
	}
	return os.WriteFile(output, text, 0o644)
}

func try(kind, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	var dialer net.Dialer
	if kind == "dns" {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "udp", address)
		}}
		_, err := resolver.LookupNetIP(ctx, "ip4", hostName)
		return err
	}
	network := "tcp"
	if kind == "abstract" {
		network = "unix"
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	text, err := io.ReadAll(conn)
	if err == nil && string(text) != greeting {
		err = fmt.Errorf("%q answers", text)
	}
	return err
}

// listen offers all that an action could reach: TCP on the loopback and, where there is one, at the
// machine's own address; a socket with an abstract name; a name server.
func listen(t *testing.T) map[string]string {
	t.Helper()
	greet := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, greeting)
				conn.Close()
			}
		}()
		return l.Addr().String()
	}
	all := map[string]string{
		"loopback": greet("tcp", "127.0.0.1:0"),
		"abstract": greet("unix", fmt.Sprintf("@network_test-%d", os.Getpid())),
		"dns":      serveDNS(t),
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			all["machine"] = greet("tcp", ip.IP.String()+":0")
			break
		}
	}
	return all
}

// serveDNS serves one name on the loopback.
func serveDNS(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(query[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			answer := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true},
				Questions: m.Questions,
				Answers: []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
					Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
				}},
			}
			if packed, err := answer.Pack(); err == nil {
				conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

const probeRule = `
def _impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.run(
        executable = ctx.file.program,
        arguments = [out.path],
        env = {"NETWORK_TEST_PROBE": ctx.attr.addresses},
        execution_requirements = {r: "1" for r in ctx.attr.requirements},
        outputs = [out],
        mnemonic = "Probe",
    )
    return [DefaultInfo(files = depset([out]))]

probe = rule(_impl, attrs = {
    "addresses": attr.string(),
    "program": attr.label(allow_single_file = True),
    "requirements": attr.string_list(),
})

# The flags of .bazelrc that belong to other rules.
flag = rule(lambda ctx: [], build_setting = config.bool(flag = True))
`

const flagWorkspace = `workspace(name = "probe")
local_repository(name = "io_bazel_rules_go", path = "rules_go")
local_repository(name = "io_bazel_rules_docker", path = "rules_docker")
`

// TestNetwork runs an action as .bazelrc has them run. It reaches nothing; and everything, where
// the flag says so, so that what it tries to reach is there.
func TestNetwork(t *testing.T) {
	b := newBazel(t)
	addresses := listen(t)
	var list []string
	for kind, address := range addresses {
		list = append(list, kind+"="+address)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.write(".bazelrc", string(read(t, "../.bazelrc")))
	b.write("WORKSPACE", flagWorkspace)
	b.write("probe.bzl", probeRule)
	b.writeProgram("prober", read(t, program))
	b.writeProgram("scripts/workspace-status", []byte("#!/bin/sh\n"))
	for path, flag := range map[string]string{"rules_go/go/config": "pure", "rules_docker/transitions": "enable"} {
		b.write(strings.Split(path, "/")[0]+"/WORKSPACE", "")
		b.write(path+"/BUILD.bazel", fmt.Sprintf("load(%q, \"flag\")\nflag(name = %q, build_setting_default = False, visibility = [\"//visibility:public\"])\n", "@probe//:probe.bzl", flag))
	}
	target := func(name, attributes string) string {
		return fmt.Sprintf("probe(name = %q, addresses = %q, program = \"prober\", %s)\n", name, strings.Join(list, " "), attributes)
	}
	b.write("BUILD.bazel", "load(\":probe.bzl\", \"probe\")\n"+
		target("plain", "")+
		target("tagged", `tags = ["local", "no-sandbox", "requires-network"]`)+
		// The same once more: Bazel does not run an action again because of the flag.
		target("open", "")+
		target("outside", `requirements = ["no-sandbox"]`))

	const nothing, everything, notRun = "nothing", "everything", "not run"
	for _, c := range []struct{ what, target, flag, want string }{
		{"an action", "plain", "", nothing},
		// Tags are for tests.
		{"tags do not help", "tagged", "", nothing},
		{"nor does an action outside the sandbox", "outside", "", notRun},
		{"with the network", "open", "--sandbox_default_allow_network", everything},
	} {
		t.Run(c.what, func(t *testing.T) {
			args := []string{"build", "--disk_cache=", "--repository_cache=", "//:" + c.target}
			if c.flag != "" {
				args = append(args, c.flag)
			}
			out, err := b.run(nil, args...)
			if c.want == notRun {
				if err == nil || !strings.Contains(out, "strateg") {
					t.Errorf("it was run: %v\n%s", err, out)
				}
				return
			}
			if err != nil {
				t.Fatalf("bazel: %v\n%s", err, out)
			}
			var got map[string]string
			if err := json.Unmarshal(b.readOutput(t, c.target+".json"), &got); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(addresses) {
				t.Fatalf("it tried %v, want %v", got, maps.Keys(addresses))
			}
			for kind, failure := range got {
				if (failure == "") != (c.want == everything) {
					t.Errorf("%s: %q; want %s to be reached", kind, failure, c.want)
				}
			}
			t.Logf("%v", got)
		})
	}
}
