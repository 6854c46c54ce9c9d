package v1alpha1

import (
	"strings"
	"testing"
)

// Flags and names are added to those that are there, whatever version of kubeadm's a patch is for.
func TestPatchMerges(t *testing.T) {
	const object = `{"apiVersion":"kubeadm.k8s.io/v1beta4","kind":"ClusterConfiguration",` +
		`"apiServer":{"certSANs":["localhost"],"extraArgs":[{"name":"a","value":"1"},{"name":"b","value":"2"}]}}`
	for _, test := range []struct{ patch, want string }{
		{"apiServer: {extraArgs: {c: 3, b: true}}", `"certSANs":["localhost"],"extraArgs":[{"name":"a","value":"1"},{"name":"b","value":"true"},{"name":"c","value":"3"}]`},
		{"apiVersion: kubeadm.k8s.io/v1beta2\nmetadata: {name: config}\napiServer: {extraArgs: {a: x}}", `[{"name":"b","value":"2"},{"name":"a","value":"x"}]`},
		{"apiServer: {extraArgs: [{name: d, value: x}, {name: d, value: z}, {name: a}]}", `[{"name":"b","value":"2"},{"name":"d","value":"x"},{"name":"d","value":"z"}]`},
		{"apiServer: {extraArgs: null}", `"apiServer":{"certSANs":["localhost"]}`},
		{"apiServer: {certSANs: [localhost, x.example]}", `"certSANs":["localhost","x.example"]`},
		{"apiServer: {certSANs: [{a: b}, {a: b}]}", `"certSANs":["localhost",{"a":"b"}]`}, // for kubeadm to refuse
		{"scheduler: {extraArgs: {v: 4}}", `"scheduler":{"extraArgs":[{"name":"v","value":"4"}]}`},
		{"apiVersion: kubeadm.k8s.io/v1beta5\nclusterName: x", `"b","value":"2"}]}}`},
	} {
		got, err := Patch([]byte(object), []string{"kind: ClusterConfiguration\n" + test.patch}, nil)
		if text := string(got); err != nil || !strings.Contains(text, test.want) || strings.Contains(text, "metadata") || !strings.Contains(text, `"apiVersion":"kubeadm.k8s.io/v1beta4"`) {
			t.Errorf("%s: got %s, %v\nwant %s", test.patch, got, err, test.want)
		}
	}
}

func TestParseMergePatch(t *testing.T) {
	for patch, want := range map[string]string{
		"kind: A\n---\nkind: B":            "more than one YAML document",
		"# of all nodes\n---\nkind: A":     "",
		"---\nkind: A":                     "",
		"[]":                               "no YAML object",
		"apiServer: {extraArgs: x}":        "extraArgs: want a list",
		"apiServer: {extraArgs: [x]}":      "extraArgs: want each",
		"apiServer: {extraArgs: {x: [1]}}": "extraArgs: x: want a text",
		"nodeRegistration: {kubeletExtraArgs: [{value: x}]}": "kubeletExtraArgs: want each",
	} {
		_, err := parseMergePatch(patch)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", patch, err, want)
		}
	}
}
