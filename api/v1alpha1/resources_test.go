package v1alpha1

import (
	"strings"
	"testing"
)

func TestResources(t *testing.T) {
	for memory, want := range map[string]int64{"": 0, "1Gi": 1 << 30, "600Mi": 600 << 20, "2T": 2e12, "1073741824": 1 << 30, "1048576Ki": 1 << 30} {
		if got, err := (Resources{Memory: memory}).MemoryBytes(); got != want || err != nil {
			t.Errorf("%q: got %d, %v, want %d", memory, got, err, want)
		}
	}
	for _, memory := range []string{"Gi", "1.5Gi", "-1Gi", "1gi", "1 Gi", "9999999999Ti", "1GiB"} {
		if got, err := (Resources{Memory: memory}).MemoryBytes(); err == nil {
			t.Errorf("%q is %d bytes", memory, got)
		}
	}
	two := 2
	c := Default()
	c.Nodes = []Node{
		{Role: RoleControlPlane, Resources: Resources{Memory: "512Mi"}},
		{Role: RoleWorker, Count: &two, Resources: Resources{CPUs: -1, Memory: "much"}},
		{Role: RoleWorker, Resources: Resources{CPUs: 3, Memory: "512Mi"}},
	}
	err := c.Validate()
	for _, want := range []string{
		`nodes[0].resources.memory: "512Mi": a node with the role control-plane needs at least 1024Mi`,
		"nodes[1].resources.cpus: -1: want a whole number from 1",
		`nodes[1].resources.memory: "much": want a number of bytes with a suffix`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "nodes[2]") {
		t.Error(err)
	}
	if err := c.CheckMachine(2); err == nil || !strings.Contains(err.Error(), "nodes[2].resources.cpus: 3: the Docker host has 2") {
		t.Errorf("got %v", err)
	}
	if err := c.CheckMachine(3); err != nil {
		t.Error(err)
	}
}
