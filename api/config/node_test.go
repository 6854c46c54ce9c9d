package config

import (
	"strings"
	"testing"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
)

func TestReadNode(t *testing.T) {
	n, err := ReadNode("node.yaml", []byte("name: gpu\nlabels: {a: b}\ntaints: [{key: x, effect: NoSchedule}]\n"))
	if err != nil || n.Role != v1alpha1.RoleWorker || n.Name != "gpu" || n.Labels["a"] != "b" || len(n.Taints) != 1 {
		t.Errorf("got %+v, %v", n, err)
	}
	for text, want := range map[string]string{
		"role: master": `node.yaml: line 1: role: "master": want control-plane or worker`,
		"name: Gpu\nlabel: {}\ncount: -1\n": `node.yaml: line 1: name: "Gpu": want 2 to 63 lower case letters, digits and hyphens` +
			"\nnode.yaml: line 2: label: no such field: did you mean labels?\nnode.yaml: line 3: count: -1: want a whole number from 0 to 100",
		"": "node.yaml: the YAML document is empty",
		"extraPortMappings: [{hostPort: 6443, containerPort: 80}]": "node.yaml: line 1: extraPortMappings[0].hostPort: 6443 is the API server's",
	} {
		if _, err := ReadNode("node.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v\nwant %s", text, err, want)
		}
	}
}
