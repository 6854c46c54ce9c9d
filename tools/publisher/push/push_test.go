package push_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/imagetest"
	"github.com/dind-cluster/dind-cluster/tools/publisher/push"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registry"
	"github.com/dind-cluster/dind-cluster/tools/publisher/registrytest"
)

// family is three images as ours are: two stand on the first. Node is the content of the second
// one's last layer.
func family(t *testing.T, node string, sbom bool, tags ...string) []push.Image {
	t.Helper()
	base := imagetest.New(t, imagetest.Spec{Name: "base:1", Layers: []string{"debian", "containerd"}})
	upper := imagetest.New(t, imagetest.Spec{Name: "node:1", Base: base, Layers: []string{"kubernetes", node}})
	cluster := imagetest.New(t, imagetest.Spec{Name: "cluster:1", Base: base, Layers: []string{"tests", "cluster"}})
	var images []push.Image
	for _, files := range []*image.Files{base, upper, cluster} {
		img, err := image.Open(files)
		if err != nil {
			t.Fatal(err)
		}
		short, _, _ := strings.Cut(files.Name, ":")
		one := push.Image{Name: short, Tags: tags, Image: img}
		if sbom {
			a, err := push.NewSBOM(img, short+".spdx.json", []byte(`{"spdxVersion":"SPDX-2.3","name":"`+short+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			one.Attachments = []*push.Attachment{a}
		}
		images = append(images, one)
	}
	return images
}

func plan(t *testing.T, s *registrytest.Server, images []push.Image, siblings ...string) *push.Plan {
	t.Helper()
	p, err := tryPlan(t, s, images, siblings...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryPlan(t *testing.T, s *registrytest.Server, images []push.Image, siblings ...string) (*push.Plan, error) {
	t.Helper()
	place, err := registry.ParsePlace(s.Host + "/team")
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(t.Context(), place, registry.Options{Jobs: 3, Pause: func(int) time.Duration { return time.Millisecond }})
	if err != nil {
		t.Fatal(err)
	}
	return push.NewPlan(t.Context(), client, images, siblings)
}

func do(t *testing.T, s *registrytest.Server, images []push.Image, siblings ...string) push.Stats {
	t.Helper()
	stats, err := plan(t, s, images, siblings...).Push(t.Context(), 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

func count(requests []string, prefix string) (n int) {
	for _, r := range requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func digest(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// checkTags checks that exactly these images are there, complete, under all of their tags.
func checkTags(t *testing.T, s *registrytest.Server, images []push.Image) {
	t.Helper()
	got := s.CheckTags(t)
	want := 0
	for _, i := range images {
		for _, tag := range i.Tags {
			want++
			if key := "team/" + i.Name + ":" + tag; got[key] != digest(t, i.Image) {
				t.Errorf("%s is %v, want %v", key, got[key], digest(t, i.Image))
			}
		}
	}
	for key := range got {
		if strings.Contains(key, ":sha256-") { // where referrers are listed
			want++
		}
	}
	if len(got) != want {
		t.Errorf("tags are %v, want %d", got, want)
	}
}

func TestPush(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"plain":     {},
		"referrers": {Referrers: true},
		"tokens":    {Token: true},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Token {
				t.Setenv(registry.UsernameVariable, registrytest.User)
				t.Setenv(registry.PasswordVariable, registrytest.Password)
			}
			s := registrytest.New(t, o)
			images := family(t, "node", true, "v1", "v1-abc")
			stats := do(t, s, images)
			writes := s.Writes()

			// 2 + 2 + 2 layers, 3 configs, 3 SBOMs, 1 empty config; the base's two layers and the
			// empty config twice more.
			if stats.Uploaded != 13 || stats.Mounted != 6 {
				t.Errorf("%+v, want 13 uploaded, 6 mounted", stats)
			}
			if n := count(writes, "PATCH "); n != 13 {
				t.Errorf("%d uploads, want 13", n)
			}
			// A registry that has the API for referrers lists them by itself; elsewhere each image
			// has a tag with the list.
			lists := 0
			for _, r := range writes {
				if strings.Contains(r, "/manifests/sha256-") {
					lists++
				}
			}
			if want := map[bool]int{true: 0, false: len(images)}[o.Referrers]; lists != want {
				t.Errorf("%d lists of referrers were written, want %d", lists, want)
			}
			// Nothing but tags comes after the first tag.
			first := slices.IndexFunc(writes, func(r string) bool { return strings.Contains(r, "/manifests/v1") })
			for i, r := range writes {
				if strings.Contains(r, "/manifests/v1") != (i >= first) {
					t.Errorf("write %d is %s, the first tag is write %d", i, r, first)
				}
			}
			if o.Token {
				return // go-containerregistry's client below has no password
			}
			checkTags(t, s, images)
			checkReferrers(t, s, images)

			if n := count(s.Requests(), "GET /v2/team/node/referrers/"); n == 0 {
				t.Error("no request for referrers")
			}

			// Again: nothing to do.
			stats = do(t, s, family(t, "node", true, "v1", "v1-abc"))
			if writes := s.Writes(); len(writes) > 0 || stats != (push.Stats{}) {
				t.Errorf("the second push writes %q: %+v", writes, stats)
			}

			// A new tag, and nothing else.
			do(t, s, family(t, "node", true, "v1", "v1-def"))
			if writes := s.Writes(); len(writes) != 3 || count(writes, "PUT /v2/team/") != 3 {
				t.Errorf("a new tag writes %q", writes)
			}

			// A small change: one layer, one config, one SBOM.
			images = family(t, "node2", true, "v1", "v1-def")
			stats = do(t, s, images)
			if writes := s.Writes(); count(writes, "PATCH ") != 2 || stats.Uploaded != 2 || stats.Mounted != 0 {
				t.Errorf("a small change writes %q: %+v", writes, stats)
			}
			got := s.CheckTags(t)
			if got["team/node:v1"] != digest(t, images[1].Image) {
				t.Errorf("the tag did not move")
			}
		})
	}
}

func checkReferrers(t *testing.T, s *registrytest.Server, images []push.Image) {
	t.Helper()
	for _, i := range images {
		repo, err := name.NewRepository(s.Host + "/team/" + i.Name)
		if err != nil {
			t.Fatal(err)
		}
		index, err := remote.Referrers(repo.Digest(digest(t, i.Image).String()))
		if err != nil {
			t.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Manifests) != 1 || m.Manifests[0].Digest != i.Attachments[0].Digest() {
			t.Fatalf("%s has referrers %+v, want %v", i.Name, m.Manifests, i.Attachments[0].Digest())
		}
		a, err := remote.Image(repo.Digest(m.Manifests[0].Digest.String()))
		if err != nil {
			t.Fatal(err)
		}
		am, err := a.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if am.ArtifactType != string(push.SPDX) || am.Subject == nil || am.Subject.Digest != digest(t, i.Image) || len(am.Layers) != 1 || am.Layers[0].MediaType != push.SPDX {
			t.Errorf("%s has SBOM %+v", i.Name, am)
		}
	}
}

func TestNoMounts(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{NoMounts: true})
	images := family(t, "node", false, "v1")
	stats := do(t, s, images)
	if stats.Uploaded != 13 || stats.Mounted != 0 { // 6 layers and 3 configs, the base's two layers twice more
		t.Errorf("%+v", stats)
	}
	checkTags(t, s, images)
}

// TestSiblings checks that an image pushed alone takes layers from one that was pushed before.
func TestSiblings(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	images := family(t, "node", false, "v1")
	do(t, s, images[:1])
	stats := do(t, s, images[1:2], "nothing-there", "base", "node")
	if stats.Uploaded != 3 || stats.Mounted != 2 {
		t.Errorf("%+v, want 3 uploaded, 2 mounted", stats)
	}
	checkTags(t, s, images[:2])
}

// TestHeals checks that a push brings back what the registry has lost.
func TestHeals(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	images := family(t, "node", true, "v1")
	do(t, s, images)
	layers, err := images[1].Image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers[1:3] { // one that the base has too, one that it does not
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		s.Lose(t, "team/node", d)
	}
	stats := do(t, s, images)
	if stats.Uploaded != 1 || stats.Mounted != 1 {
		t.Errorf("%+v, want 1 uploaded, 1 mounted", stats)
	}
	checkTags(t, s, images)
}

// TestReferrerListed checks that an SBOM whose manifest is there, but which no list of referrers
// names, is attached.
func TestReferrerListed(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	images := family(t, "node", true, "v1")
	s.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasPrefix(path.Base(r.URL.Path), "sha256-") {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	})
	_, err := plan(t, s, images).Push(t.Context(), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "attaching base.spdx.json") || !strings.Contains(err.Error(), "No tag was written") {
		t.Fatalf("error %v", err)
	}
	s.SetFault(nil)
	do(t, s, images)
	checkTags(t, s, images)
	checkReferrers(t, s, images)
}

// TestFaults pushes to a registry that fails at random: answers with errors, cuts connections
// before and in the middle of bodies. The push goes through, and at no moment does a tag point at
// something incomplete.
func TestFaults(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := registrytest.New(t, registrytest.Options{Referrers: seed%2 == 0, NoMounts: seed%5 == 0})
			images := family(t, "node", true, "v1", "v1-abc")
			fault := faults(seed, 0.25)
			s.SetFault(fault)
			if _, err := plan(t, s, images).Push(t.Context(), 3, nil); err != nil {
				t.Fatal(err)
			}
			s.SetFault(nil)
			checkTags(t, s, images)
			checkReferrers(t, s, images)
		})
	}
}

// faults are answers instead of the registry's, with some probability, but four in a row at most
// for the same request: after six the client gives up, as it should.
func faults(seed uint64, probability float64) func(http.ResponseWriter, *http.Request) bool {
	random := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	row := map[string]int{}
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		hit, kind, part := random.Float64() < probability, random.IntN(6), random.Int64N(300)
		request := r.Method + " " + r.URL.Path
		if hit = hit && row[request] < 4; hit {
			row[request]++
		} else {
			row[request] = 0
		}
		mu.Unlock()
		if !hit {
			return false
		}
		switch kind {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case 3:
			panic(http.ErrAbortHandler)
		case 4: // in the middle of the body
			_, _ = r.Body.Read(make([]byte, part))
			panic(http.ErrAbortHandler)
		case 5: // an upload that the registry has forgotten
			if r.Method != http.MethodPatch {
				return false
			}
			w.WriteHeader(http.StatusNotFound)
		}
		return true
	}
}

// TestRefused pushes to registries that take some requests and not others. No tag appears.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		method, path string
		status       int
		text         string
		want         string
	}{
		"read-only":          {method: "POST", status: 405, text: `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`, want: "read-only"},
		"forbidden":          {method: "POST", status: 403, text: `{"errors":[{"code":"DENIED","message":"requested access is denied"}]}`, want: "not allowed: 403 Forbidden: DENIED: requested access is denied"},
		"no such project":    {method: "POST", status: 404, text: `{"errors":[{"code":"NAME_UNKNOWN","message":"no project"}]}`, want: "has no such repository"},
		"disk full, upload":  {method: "PATCH", status: 500, text: `{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}`, want: "no space left"},
		"disk full, commit":  {method: "PUT", path: "/blobs/", status: 500, text: `write: no space left on device`, want: "no space left"},
		"quota":              {method: "POST", status: 507, want: "no space left"},
		"large":              {method: "PATCH", status: 413, text: "<html>\r\n<h1>413 Request Entity Too Large</h1></html>", want: "client_max_body_size"},
		"manifests":          {method: "PUT", path: "/manifests/sha256:", status: 400, text: `{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}`, want: "MANIFEST_INVALID"},
		"never well, upload": {method: "PATCH", status: 503, want: "503 Service Unavailable"},
		"never well, commit": {method: "PUT", path: "/blobs/", status: 500, want: "keeps failing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, registrytest.Options{Fault: func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != c.method || !strings.Contains(r.URL.Path, c.path) {
					return false
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.text)
				return true
			}})
			_, err := plan(t, s, family(t, "node", true, "v1")).Push(t.Context(), 3, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "No tag was written") {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
			if got := s.CheckTags(t); len(got) > 0 {
				t.Errorf("tags were written: %v", got)
			}
		})
	}
}

// TestTagRefused checks what is said when only some tags could be written.
func TestTagRefused(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/cluster/manifests/v1") {
			w.WriteHeader(http.StatusConflict)
			return true
		}
		return false
	}})
	_, err := plan(t, s, family(t, "node", false, "v1")).Push(t.Context(), 1, nil)
	want := fmt.Sprintf("Written before that: %s/team/base:v1, %[1]s/team/node:v1", s.Host)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "409 Conflict") {
		t.Errorf("error %v, want %q in it", err, want)
	}
	if got := s.CheckTags(t); len(got) != 2 {
		t.Errorf("tags are %v", got)
	}
}

func TestDescribe(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	old := family(t, "node", true, "v1")
	do(t, s, old)
	before := s.CheckTags(t)
	s.Requests()
	images := family(t, "node2", true, "v1", "v1-abc")
	p := plan(t, s, images)
	var out strings.Builder
	if err := p.Describe(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		s.Host + "/team/node@" + digest(t, images[1].Image).String(),
		"5 blobs there, 2 to upload (",
		": node2, ",
		": the config of node, ",
		"  write the manifest\n",
		"  attach node.spdx.json: " + images[1].Attachments[0].Digest().String(),
		"  tag v1: moves from " + digest(t, old[1].Image).String(),
		"  tag v1: there",
		"  tag v1-abc: new",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if writes := s.Writes(); len(writes) > 0 {
		t.Errorf("describing writes: %q", writes)
	}
	if got := s.CheckTags(t); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("tags are %v, were %v", got, before)
	}
	if !strings.Contains(p.Summary(), "2 to upload") {
		t.Errorf("summary %q", p.Summary())
	}
}

func TestSBOMErrors(t *testing.T) {
	img := family(t, "node", false)[0].Image
	for text, want := range map[string]string{"": "no JSON", "[]": "no JSON", "{}": "no spdxVersion", `{"bomFormat":"CycloneDX"}`: "no spdxVersion"} {
		if _, err := push.NewSBOM(img, "x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
