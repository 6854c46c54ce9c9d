package kubeconfig

import (
	"reflect"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	want := Config{Name: "k8s", Server: "https://127.0.0.1:6443", CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")}
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	golden := `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2E=
    server: https://127.0.0.1:6443
  name: k8s
contexts:
- context:
    cluster: k8s
    user: k8s
  name: k8s
current-context: k8s
kind: Config
users:
- name: k8s
  user:
    client-certificate-data: Y2VydA==
    client-key-data: a2V5
`
	if string(data) != golden {
		t.Errorf("got\n%s\nwant\n%s", data, golden)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	for data, want := range map[string]string{
		"":                                "0 clusters",
		"\tx":                             "reading the kubeconfig",
		"error: no cluster: sorry":        "reading the kubeconfig",
		"clusters: [{}]\nusers: [{}, {}]": "1 clusters and 2 users",
		"clusters: [{name: a}]\nusers: [{name: a}]": `cluster "a" has no server`,
	} {
		if _, err := Parse([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error that says %q", data, err, want)
		}
	}
}
