package cluster

import "testing"

func TestDefaultName(t *testing.T) {
	for host, want := range map[string]string{
		"k8s": "k8s", "0123456789ab": "dind-cluster", "0123456789abc": "0123456789abc", "cafe": "cafe", "deadbeef-cafe": "deadbeef-cafe",
	} {
		if got := defaultName(host, ""); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
	// What the command line says has the last word: the launcher makes its --name the host name.
	for host, want := range map[string]string{"other": "other", "0123456789ab": "described"} {
		if got := defaultName(host, "described"); got != want {
			t.Errorf("%s: got %s, want %s", host, got, want)
		}
	}
}
