package nearest

import "testing"

func TestOf(t *testing.T) {
	names := []string{"role", "labels", "featureGates", "kubeProxyMode", "podSubnet"}
	for name, want := range map[string]string{
		"rolle": "role", "roel": "role", "label": "labels", "feature-gates": "featureGates", "featuregate": "featureGates",
		"kubeproxymode": "kubeProxyMode", "podSubnets": "podSubnet", "image": "", "": "", "pod": "",
	} {
		if got := Of(name, names); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func FuzzDistance(f *testing.F) {
	f.Add("role", "roel")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 100 || len(b) > 100 {
			t.Skip()
		}
		d := Distance(a, b)
		if d != Distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) || d < max(len(a), len(b))-min(len(a), len(b)) {
			t.Errorf("distance of %q and %q is %d", a, b, d)
		}
	})
}
