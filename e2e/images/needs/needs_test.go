package needs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The images of a small test suite, in the form of the real list.
const manifestGo = `package image

type ImageID int

const (
	None ImageID = iota
	Agnhost
	BusyBox
	Nginx
	Perl
	Pause
)

type RegistryList struct{ Tests, Main string }

var initRegistry = RegistryList{
	Tests: "registry.example/tests",
	Main:  "registry.example",
}

var configs = initImageConfigs(initRegistry)

func initImageConfigs(list RegistryList) map[ImageID]Config {
	configs := map[ImageID]Config{}
	configs[Agnhost] = Config{list.Tests, "agnhost", "2"}
	configs[BusyBox] = Config{list.Tests, "busybox", "1.3"}
	configs[Nginx] = Config{list.Tests, "nginx", "1.28"}
	configs[Perl] = Config{list.Tests, "perl", "5"}
	configs[Pause] = Config{list.Main, "pause", "3"}
	return configs
}

func GetE2EImage(i ImageID) string { return configs[i].name }

func GetPauseImageName() string { return GetE2EImage(Pause) }
`

const agnhost, busybox, nginx, perl, pause = "registry.example/tests/agnhost:2", "registry.example/tests/busybox:1.3",
	"registry.example/tests/nginx:1.28", "registry.example/tests/perl:5", "registry.example/pause:3"

// tree makes a source tree of a program, its specs and helpers.
func tree(specs, helpers string, more map[string]string) fstest.MapFS {
	files := map[string]string{
		"test/utils/image/manifest.go": manifestGo,
		"test/e2e/e2e_test.go":         "package e2e\n\nimport (\n\t_ \"example.org/elsewhere\"\n\t_ \"k8s.io/kubernetes/test/e2e/specs\"\n)\n",
		"test/e2e/specs/specs.go":      specs,
		"test/e2e/helpers/helpers.go":  helpers,
	}
	fs := fstest.MapFS{}
	for name, text := range files {
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range more {
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

// report makes a dry run's report: the lines of specs.go with the marks "// container", "//
// selected" and "// skipped".
func report(specs string) string {
	var containers, texts, leaves []string
	const location = `{"FileName": "external/some_repository/test/e2e/specs/specs.go", "LineNumber": %d}`
	for i, line := range strings.Split(specs, "\n") {
		_, mark, _ := strings.Cut(line, "// ")
		here := fmt.Sprintf(location, i+1)
		_, text, _ := strings.Cut(line, `"`)
		text, _, _ = strings.Cut(text, `"`)
		switch mark {
		case "container":
			containers, texts = []string{here}, []string{fmt.Sprintf("%q", text)}
		case "selected", "skipped":
			state := map[string]string{"selected": "passed", "skipped": "skipped"}[mark]
			leaves = append(leaves, fmt.Sprintf(`{"ContainerHierarchyTexts": [%s], "ContainerHierarchyLocations": [%s],
				"LeafNodeType": "It", "LeafNodeText": %q, "LeafNodeLocation": %s, "State": %q}`,
				strings.Join(texts, ","), strings.Join(containers, ","), text, here, state))
		}
	}
	return `[{"SpecReports": [` + strings.Join(leaves, ",") + `]}]`
}

const someSpecs = `package specs

import (
	"k8s.io/kubernetes/test/e2e/helpers"
	imageutils "k8s.io/kubernetes/test/utils/image"
)

var _ = Describe("pods", func() { // container
	BeforeEach(func() { helpers.Prepare() })
	It("runs", func() { // selected
		helpers.Run()
	})
	It("is slow", func() { // skipped
		use(imageutils.GetE2EImage(imageutils.Perl))
	})
})

var _ = Describe("others", func() { // container
	BeforeEach(func() { use(imageutils.Perl) })
	It("is not run", func() { // skipped
		helpers.Unused()
	})
})
`

const head = "package helpers\n\nimport imageutils \"k8s.io/kubernetes/test/utils/image\"\n\n"

const prepare = "\nfunc Prepare() {}\n"

func TestImages(t *testing.T) {
	for _, c := range []struct {
		name, helpers string
		more          map[string]string
		want          []string
	}{
		{
			name:    "a function that the spec calls, not those of other specs",
			helpers: head + "func Run() { start(imageutils.BusyBox) }\nfunc Unused() { start(imageutils.Perl) }\n" + prepare,
			want:    []string{busybox},
		},
		{
			name:    "what runs before the spec",
			helpers: head + "func Run() {}\nfunc Prepare() { start(imageutils.BusyBox) }\n",
			want:    []string{busybox},
		},
		{
			name:    "through a function that stands for one image",
			helpers: head + "func Run() { start(imageutils.GetPauseImageName()) }\n" + prepare,
			want:    []string{pause},
		},
		{
			name:    "a method of a type, called through some interface",
			helpers: head + "func Run() { elsewhere.Do(client{}) }\ntype client struct{}\nfunc (c *client) Start() { start(imageutils.Nginx) }\n" + prepare,
			want:    []string{nginx},
		},
		{
			name:    "a method of a generic type",
			helpers: head + "func Run() { elsewhere.Do(list[int]{}) }\ntype list[T any] struct{}\nfunc (c *list[T]) Start() { start(imageutils.Nginx) }\n" + prepare,
			want:    []string{nginx},
		},
		{
			name:    "a variable's value, and a function value",
			helpers: head + "var starter = start\nvar image = imageutils.Nginx\nfunc start() { x(imageutils.BusyBox) }\nfunc Run() { x(image, starter) }\n" + prepare,
			want:    []string{busybox, nginx},
		},
		{
			name:    "a name imported without its package",
			helpers: "package helpers\n\nimport . \"k8s.io/kubernetes/test/utils/image\"\n\nfunc Run() { start(Nginx) }\n" + prepare,
			want:    []string{nginx},
		},
		{
			name:    "a plain name with a registry; without one it cannot be started",
			helpers: head + "func Run() { start(\"registry.example/other/thing:1\", \"nginx:latest\", \"docker.io/\", \"registry.example/%s\") }\n" + prepare,
			want:    []string{"registry.example/other/thing:1"},
		},
		{
			name:    "a manifest by its name or its path, not one of the same name elsewhere",
			helpers: head + "func Run() { read(\"web.yaml.in\"); read(\"test/manifests/a/db.json\") }\n" + prepare,
			more: map[string]string{
				"test/manifests/web.yaml.in": "kind: Pod\nspec:\n  containers:\n  - image: \"quay.io/web:1\"\n    name: x\n  - image: {{.Agnhost}}\n  - {name: y}\n",
				"test/manifests/a/db.json":   "{\n  \"kind\": \"Pod\",\n  \"image\": \"db:2\"\n}\n",
				"test/manifests/b/db.json":   "{\n  \"kind\": \"Pod\",\n  \"image\": \"db:3\"\n}\n",
				"test/manifests/data.json":   "{\n  \"image\": \"kitten.jpg\"\n}\n",
			},
			want: []string{"db:2", "quay.io/web:1"},
		},
		{
			name:    "not a file of another system, nor a test of a helper",
			helpers: head + "func Run() { start() }\n" + prepare,
			more: map[string]string{
				"test/e2e/helpers/start_windows.go": head + "func start() { x(imageutils.Perl) }\n",
				"test/e2e/helpers/start_linux.go":   head + "func start() { x(imageutils.BusyBox) }\n",
				"test/e2e/helpers/start_test.go":    head + "func start() { x(imageutils.Perl) }\n",
			},
			want: []string{busybox},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Table(tree(someSpecs, c.helpers, c.more), strings.NewReader(report(someSpecs)), nil, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got["pods runs"], c.want) {
				t.Errorf("needs %q, want %q", got["pods runs"], c.want)
			}
		})
	}
}

// TestTable checks that each spec has the images of its own and of what runs before it, and no
// other spec's.
func TestTable(t *testing.T) {
	helpers := head + `
func Prepare() { start(imageutils.BusyBox) }
func Run() { odd(3) }
func odd(n int) { if n > 0 { even(n - 1) }; start(imageutils.Agnhost) }
func even(n int) { odd(n - 1); start(imageutils.Nginx) }
func Unused() { even(2); cluster(); start("registry.example/none:1") }
func cluster() { start(imageutils.GetPauseImageName()) }
func init() { start(imageutils.Pause) }
`
	listed := []string{agnhost, nginx, busybox, "registry.example/tests/perl:6", pause}
	absent := map[string]string{"registry.example/none:1": "not there"}
	got, err := Table(tree(someSpecs, helpers, nil), strings.NewReader(report(someSpecs)), listed, []Cut{{Func: "test/e2e/helpers.cluster"}}, absent)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"pods runs":         {agnhost, busybox, nginx},
		"pods is slow":      {busybox, "registry.example/tests/perl:6"},
		"others is not run": {agnhost, nginx, "registry.example/tests/perl:6"},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	_, err = Table(tree(someSpecs, helpers, nil), strings.NewReader(report(strings.Repeat("\n", 30)+someSpecs)), nil, nil, absent)
	for _, want := range []string{"different versions", "no spec names registry.example/none:1 any more"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("another version's report: got %v, want %q", err, want)
		}
	}
}

// TestLocal checks that a local function counts for those specs only that call it, or that it
// declares.
func TestLocal(t *testing.T) {
	specs := `package specs

import "k8s.io/kubernetes/test/e2e/helpers"

var _ = Describe("driver", func() { // container
	prepare := func() { deploy() }
	deploy := func() { helpers.Run() }
	shared := func() {
		It("is declared elsewhere", func() { // selected
			helpers.Prepare()
		})
	}
	It("uses it", func() { // selected
		prepare()
	})
	It("does not", func() { // selected
		helpers.Unused()
	})
	shared()
})
`
	helpers := head + "func Run() { x(imageutils.Nginx) }\nfunc Prepare() { x(imageutils.BusyBox) }\nfunc Unused() { x(imageutils.Agnhost) }\n"
	got, err := Table(tree(specs, helpers, nil), strings.NewReader(report(specs)), nil, nil, nil)
	want := map[string][]string{
		"driver is declared elsewhere": {busybox},
		"driver uses it":               {nginx},
		"driver does not":              {agnhost},
	}
	if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
}

// TestDriver checks that the specs of a storage driver have the images of this driver only,
// although they are declared at the same place as those of the others.
func TestDriver(t *testing.T) {
	specs := `package specs

import "k8s.io/kubernetes/test/e2e/storage/drivers"

var _ = Describe("[Driver: nfs3]", func() { // container
	use(drivers.InitNFSDriver, drivers.InitHostPathCSIDriver, drivers.InitLocalDriver)
	It("mounts", func() {}) // selected
})
`
	table := func(driver string) []string {
		named := strings.Replace(specs, "nfs3", driver, 1)
		got, err := Table(tree(named, "package helpers\n", map[string]string{
			"test/e2e/storage/drivers/drivers.go": strings.Replace(head, "helpers", "drivers", 1) + `
func InitNFSDriver() { x(imageutils.Nginx) }
func InitLocalDriver() { x(imageutils.BusyBox) }
func InitHostPathCSIDriver() { new("csi-hostpath"); x(imageutils.Perl) }
`}), strings.NewReader(report(named)), nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got["[Driver: "+driver+"] mounts"]
	}
	for driver, want := range map[string][]string{
		"nfs3": {nginx}, "local": {busybox}, "csi-hostpath": {perl}, "unknown": {busybox, nginx, perl},
	} {
		if got := table(driver); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", driver, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	helpers := head + "func Run() { if false { pull() } }\nfunc pull() { x(imageutils.BusyBox) }\n" + prepare
	got, err := Table(tree(someSpecs, helpers, nil), strings.NewReader(report(someSpecs)), nil, []Cut{{Func: "test/e2e/helpers.pull", Reason: "off"}}, nil)
	if err != nil || got["pods runs"] != nil {
		t.Errorf("needs %v, %v; want none", got["pods runs"], err)
	}
}

func TestErrors(t *testing.T) {
	fine := head + "func Run() {}\n" + prepare
	for _, c := range []struct {
		name   string
		tree   fstest.MapFS
		report string
		cuts   []Cut
		want   string
	}{
		{"no report", tree(someSpecs, fine, nil), "nonsense", nil, "no JSON report of Ginkgo"},
		{"no specs", tree(someSpecs, fine, nil), "[]", nil, "has no spec"},
		{"another program's report", tree(someSpecs, fine, nil), strings.ReplaceAll(report(someSpecs), "test/e2e", "src"), nil, "not below test/"},
		{"another version's report", tree(someSpecs, fine, nil), report(strings.Repeat("\n", 30) + someSpecs), nil, "specs.go:38: the dry run has a spec or container here"},
		{"a cut that nothing mentions", tree(someSpecs, fine, nil), report(someSpecs), []Cut{{Func: "test/e2e/helpers.pull"}}, "no spec mentions test/e2e/helpers.pull"},
		{"no sources", fstest.MapFS{}, report(someSpecs), nil, "reading the sources"},
		{"broken source", tree("package specs\nfunc {", fine, nil), report(someSpecs), nil, "specs.go:2"},
		{"an image in a new form", tree(someSpecs, fine, map[string]string{
			"test/utils/image/manifest.go": strings.Replace(manifestGo, `Config{list.Tests, "perl", "5"}`, `perlImage()`, 1),
		}), report(someSpecs), nil, "image Perl is not made of"},
		{"no list", tree(someSpecs, fine, map[string]string{
			"test/utils/image/manifest.go": "package image\n",
		}), report(someSpecs), nil, "has no images"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Table(c.tree, strings.NewReader(c.report), nil, c.cuts, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add(report(someSpecs))
	f.Add(`[{"SpecReports": null}]`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := readReport(strings.NewReader(text))
		if err == nil && len(s.located) == 0 {
			t.Error("a report with specs has none in the source")
		}
	})
}

func FuzzImagesIn(f *testing.F) {
	f.Add("kind: Pod\nspec:\n  containers:\n  - image: \"quay.io/web:1\"\n")
	f.Add("{\"kind\": \"Pod\", \"image\": \"a\"}")
	f.Fuzz(func(t *testing.T, text string) {
		for _, image := range imagesIn([]byte(text)) {
			if image == "" || strings.ContainsAny(image, " \n\"'") || !strings.Contains(text, image) {
				t.Errorf("image %q", image)
			}
		}
	})
}
