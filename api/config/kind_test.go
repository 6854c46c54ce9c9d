package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

// The files are like those that people have for kind.
func TestKindFiles(t *testing.T) {
	const dir = "../kind/testdata"
	tests := map[string]struct {
		// is has the number of nodes, ports, mounts and feature gates, or what the error says.
		is string
		// warnings has the fields that are left away.
		warnings string
	}{
		"minimal":                   {is: "1 0 0 0"},
		"ingress-single":            {is: "1 2 0 0"},
		"ingress-workers":           {is: "3 2 0 0", warnings: "nodes[0].image"},
		"ha":                        {is: "6 0 0 0"},
		"default-role":              {is: "2 0 0 0"},
		"documented-everything":     {is: "2 0 0 0"},
		"explicit-defaults":         {is: "3 0 0 0"},
		"calico":                    {is: "3 0 0 0"},
		"cilium-without-proxy":      {is: "2 0 0 0"},
		"cilium-beside-proxy":       {is: "2 0 0 0", warnings: "nodes[0].image"},
		"dual-stack":                {is: "2 0 0 0"},
		"ipv6":                      {is: "1 0 0 0"},
		"ipvs":                      {is: "2 0 0 0"},
		"registry-mirror":           {is: "1 0 0 0"},
		"registry-many-mirrors":     {is: "2 0 0 0"},
		"registry-config-path":      {is: "1 0 0 0"},
		"registry-both-containerds": {is: "2 0 0 0"},
		"registry-credentials":      {is: "1 0 0 0"},
		"containerd-cdi":            {is: "2 0 0 1"},
		"containerd-runtime":        {is: "1 0 0 0"},
		"containerd-snapshots":      {is: "1 0 0 0"},
		"audit":                     {is: "2 0 1 0"},
		"audit-v1beta3":             {is: "1 0 1 0"},
		"issuer-v1beta2":            {is: "1 1 0 0", warnings: "nodes[0].image"},
		"patches-in-one":            {is: "1 0 0 0"},
		"patches-per-version":       {is: "1 0 0 0"},
		"patches-worker-init":       {is: "3 0 0 0", warnings: "nodes[1].kubeadmConfigPatches nodes[2].kubeadmConfigPatches"},
		"patches-json-v1beta3":      {is: `line 6: kubeadmConfigPatchesJSON6902[0].version: "v1beta3": kubeadm's configuration is of kubeadm.k8s.io/v1beta4`},
		"patches-json-both":         {is: "1 0 0 0"},
		"patches-json-flag":         {is: "kubeadmConfigPatchesJSON6902[0].patch: /apiServer/extraArgs/event-ttl: in kubeadm.k8s.io/v1beta4 this is a list"},
		"oidc":                      {is: "1 0 0 0"},
		"components-exposed":        {is: "1 0 0 0"},
		"kubelets-tuned":            {is: "2 0 0 0"},
		"zones":                     {is: "4 0 0 0", warnings: "nodes[0].image nodes[1].kubeadmConfigPatches nodes[2].kubeadmConfigPatches nodes[3].kubeadmConfigPatches"},
		"gates-and-apis":            {is: "1 0 0 3"},
		"taints":                    {is: "3 0 0 0"},
		"docker-socket":             {is: "1 1 1 0"},
		"mount-working-directory":   {is: "2 0 2 0"},
		"mount-propagation":         {is: "2 0 3 0", warnings: "nodes[1].extraMounts[1].selinuxRelabel"},
		"mount-template":            {is: "line 6: nodes[0].image: all nodes are made from the image"},
		"ports-protocols":           {is: "1 3 0 0"},
		"ports-chosen":              {is: "nodes[0].extraPortMappings[1].hostPort: want a port"},
		"ports-sctp":                {is: `nodes[0].extraPortMappings[0].protocol: "SCTP": want TCP or UDP`},
		"api-everywhere":            {is: "1 0 0 0"},
		"family-mismatch":           {is: `line 6: networking.podSubnet: fd00:30:244::/56: networking.ipFamily is dual: want an IPv4 and an IPv6 subnet`},
		"image-own":                 {is: "line 4: nodes[0].image: all nodes are made from the image"},
		"old-version":               {is: `line 3: apiVersion: "kind.sigs.k8s.io/v1alpha3": want`},
		"unknown-field":             {is: "line 6: nodes[0].taints: no such field"},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) != len(tests) {
		t.Errorf("%d files, %v, and %d tests", len(files), err, len(tests))
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			c, warnings, err := ReadIn("/home/me/project", "kind.yaml", data)
			ports, mounts := 0, 0
			for _, n := range c.Nodes {
				ports += len(n.ExtraPortMappings)
				mounts += len(n.ExtraMounts)
			}
			got := fmt.Sprintf("%d %d %d %d", len(c.Expand()), ports, mounts, len(c.FeatureGates))
			if err != nil {
				got = err.Error()
			}
			if got != test.is && (err == nil || !strings.Contains(got, test.is)) {
				t.Errorf("got %s, want %s", got, test.is)
			}
			var fields []string
			for _, w := range warnings {
				parts := strings.SplitN(w, ": ", 4)
				fields = append(fields, parts[2])
			}
			if got := strings.Join(fields, " "); err == nil && got != test.warnings {
				t.Errorf("the warnings are %q, want %q", warnings, test.warnings)
			}
			if err != nil {
				return
			}
			text, err := Write(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Read("again.yaml", text); err != nil {
				t.Error(err)
			}
		})
	}
}

// A control plane's taints are those of the patch for what becomes of it.
func TestKindTaints(t *testing.T) {
	data, err := os.ReadFile("../kind/testdata/taints.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Read("kind.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Nodes[0].Taints; a == nil || len(a) != 0 {
		t.Errorf("the first has %v, want none", a)
	}
	if b := c.Nodes[1].Taints; len(b) != 1 || b[0] != (v1alpha1.Taint{Key: "example.org/infra", Value: "yes", Effect: "PreferNoSchedule"}) {
		t.Errorf("the second has %v", b)
	}
	if w := c.Nodes[2].Taints; w != nil {
		t.Errorf("the worker has %v", w)
	}
}

// A registry's password comes out of the patch, where it would be shown.
func TestKindCredentials(t *testing.T) {
	data, err := os.ReadFile("../kind/testdata/registry-credentials.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Read("kind.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Registries["registry.example"]; r.Username != "ci" || r.Password != "not one" {
		t.Errorf("got %+v", c.Registries)
	}
	shown, err := Write(c.Hide())
	if err != nil || strings.Contains(string(shown), "not one") {
		t.Errorf("got %s, %v", shown, err)
	}
	// What has no place elsewhere stays, and is refused.
	other := strings.Replace(string(data), `password = "not one"`, `identitytoken = "not one"`, 1)
	if _, err := Read("kind.yaml", []byte(other)); err == nil || !strings.Contains(err.Error(), "containerdConfigPatches[0]: registry.configs does not go with config_path") {
		t.Errorf("got %v", err)
	}
}

// Host paths start where the user works, and only then.
func TestReadIn(t *testing.T) {
	data, err := os.ReadFile("../kind/testdata/mount-working-directory.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := ReadIn("/home/me/project", "kind.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := c.Nodes[0].ExtraMounts[0].HostPath, c.Nodes[1].ExtraMounts[0].HostPath; a != "/home/me/project" || b != "/home/me/data" {
		t.Errorf("the paths are %s and %s", a, b)
	}
	if _, err := Read("kind.yaml", data); err == nil || !strings.Contains(err.Error(), `line 6: nodes[0].extraMounts[0].hostPath: "./": want an absolute path`) {
		t.Errorf("got %v", err)
	}
}
