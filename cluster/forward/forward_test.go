package forward

import "testing"

func TestParse(t *testing.T) {
	for s, want := range map[string]Target{
		"svc/web":            {Kind: "service", Name: "web"},
		"services/web":       {Kind: "service", Name: "web"},
		"po/a.b":             {Kind: "pod", Name: "a.b"},
		"Deployment/d":       {Kind: "deployment", Name: "d"},
		"deployments/d":      {Kind: "deployment", Name: "d"},
		"no/worker1":         {Kind: "node", Name: "worker1"},
		"web":                {},
		"svc/":               {},
		"svc/a/b":            {},
		"ingress/a":          {},
		"":                   {},
		"deployments.apps/x": {},
	} {
		got, err := Parse(s)
		if got != want || (err == nil) != (want.Name != "") {
			t.Errorf("%q: got %+v, %v; want %+v", s, got, err, want)
		}
	}
}
