// Package docs_test reads README.md and the documents beside it, and holds what they name against
// what there is: files, targets, commands, options, settings. It runs the code blocks that need no
// Docker; //e2e:docs runs those that do.
package docs_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/host"
	"github.com/dind-cluster/dind-cluster/cluster/settings"
	"github.com/dind-cluster/dind-cluster/docs/blocks"
	testhost "github.com/dind-cluster/dind-cluster/e2e/host/cmd"
	"github.com/dind-cluster/dind-cluster/internal/docker"
	boot "github.com/dind-cluster/dind-cluster/tools/boot/cmd"
	e2e "github.com/dind-cluster/dind-cluster/tools/e2e/cmd"
	launcher "github.com/dind-cluster/dind-cluster/tools/launcher/cli"
	loader "github.com/dind-cluster/dind-cluster/tools/loader/command"
	publisher "github.com/dind-cluster/dind-cluster/tools/publisher/cli"
	runner "github.com/dind-cluster/dind-cluster/tools/runner/cmd"
)

// programVariable makes the test program one of our programs, so that each can be asked for its
// help.
const programVariable = "DOCS_TEST_PROGRAM"

func TestMain(m *testing.M) {
	args := os.Args[1:]
	switch os.Getenv(programVariable) {
	case "":
		os.Exit(m.Run())
	case "launcher":
		os.Exit(launcher.Main(context.Background(), "", args, os.Stdout, os.Stderr))
	case "publisher":
		os.Exit(publisher.Main(context.Background(), args, os.Stdout, os.Stderr))
	case "boot_benchmark":
		os.Exit(boot.Main(context.Background(), boot.Built{}, args, os.Stdout, os.Stderr))
	case "e2e":
		os.Exit(e2e.Main(args))
	case "host":
		os.Exit(testhost.Main(context.Background(), testhost.Built{}, args, os.Stdin, os.Stdout, os.Stderr))
	case "runner":
		os.Exit(runner.Main(context.Background(), append([]string{"runner"}, args...)))
	case "kubeconfig":
		os.Exit(runner.Main(context.Background(), append([]string{"kubeconfig"}, args...)))
	case "loader":
		if err := loader.New().Execute(); err != nil {
			os.Exit(1)
		}
	}
}

// root is the checkout, as the tests see it.
const root = ".."

// document is one of them.
type document struct {
	name string // from the checkout
	text string
}

// documents returns README.md, CONTRIBUTING.md and the others at the root, and all of docs/.
func documents(t *testing.T) []document {
	t.Helper()
	names, err := blocks.Documents(root)
	if err != nil || len(names) < 10 {
		t.Fatalf("documents: %q, %v", names, err)
	}
	var all []document
	for _, name := range names {
		all = append(all, document{name, read(t, filepath.Join(root, name))})
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	linkForm   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headForm   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchorDrop = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	blockForm  = regexp.MustCompile(`(?m)^    .*$`)
	spanForm   = regexp.MustCompile("`[^`]+`")
)

// Links lead to files and headings that are there.
func TestLinks(t *testing.T) {
	for _, d := range documents(t) {
		for _, link := range linkForm.FindAllStringSubmatch(d.text, -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			path := filepath.Join(root, d.name)
			if file != "" {
				path = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", d.name, link[1], err)
			} else if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", d.name, link[1])
			}
		}
	}
}

// anchors are those of the headings, as GitHub makes them.
func anchors(text string) []string {
	var all []string
	for _, head := range headForm.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(anchorDrop.ReplaceAllString(strings.ToLower(head[1]), ""), " ", "-"))
	}
	return all
}

var labelForm = regexp.MustCompile(`(?:^|[\s` + "`" + `(])//([a-z][\w/.-]*)?(?::([\w.-]+)|(/?\.\.\.))?`)

// Bazel's targets are there.
func TestLabels(t *testing.T) {
	count := 0
	for _, d := range documents(t) {
		for _, label := range labelForm.FindAllStringSubmatch(d.text, -1) {
			pkg, name := strings.TrimSuffix(label[1], "/..."), label[2]
			if strings.Contains(pkg, "NAME") {
				continue
			}
			if strings.HasSuffix(label[0], "...") {
				// Among a test's files with Bazel there are only those that it names.
				if info, err := os.Stat(filepath.Join(root, pkg)); os.Getenv("TEST_SRCDIR") == "" && (err != nil || !info.IsDir()) {
					t.Errorf("%s: %s: no such directory", d.name, label[0])
				}
				continue
			}
			count++
			if name == "" {
				name = filepath.Base(pkg)
			}
			if err := target(pkg, name); err != nil {
				t.Errorf("%s: //%s:%s: %v", d.name, pkg, name, err)
			}
		}
	}
	if count < 20 {
		t.Errorf("the documents name %d targets: the test does not find them any more", count)
	}
}

var loadForm = regexp.MustCompile(`load\("(//)?([^":]*):([^"]+\.bzl)"`)

// target returns an error unless a package declares a target: by its name, or, of an image, by the name and
// what the image's macro appends.
func target(pkg, name string) error {
	data, err := os.ReadFile(filepath.Join(root, pkg, "BUILD.bazel"))
	if err != nil {
		return fmt.Errorf("%w (if it is in the checkout, the package has to export it, and docs/BUILD.bazel to name it)", err)
	}
	text := string(data)
	for _, load := range loadForm.FindAllStringSubmatch(text, -1) {
		folder := load[2]
		if load[1] == "" {
			folder = pkg
		}
		if macro, err := os.ReadFile(filepath.Join(root, folder, load[3])); err == nil {
			text += string(macro)
		}
	}
	has := func(s string) bool {
		return strings.Contains(text, `"`+s+`"`) || strings.Contains(text, `:`+s+`"`)
	}
	if has(name) {
		return nil
	}
	if dot := strings.LastIndex(name, "."); dot > 0 {
		base, form := name[:dot], name[dot:]
		if has(base) && (has(form) || strings.Contains(text, "NAME"+form)) {
			return nil
		}
	}
	return fmt.Errorf("no such target in %s/BUILD.bazel", pkg)
}

// command is one that a document has the reader run.
type command struct {
	document string
	words    []string
}

// commands are those of the blocks, and of the spans in sentences that are whole commands.
func commands(t *testing.T) []command {
	t.Helper()
	var all []command
	for _, d := range documents(t) {
		var lines []string
		// A line that ends in a backslash goes on.
		lines = append(lines, blockForm.FindAllString(strings.ReplaceAll(d.text, "\\\n", " "), -1)...)
		for _, span := range spanForm.FindAllString(blockForm.ReplaceAllString(d.text, ""), -1) {
			lines = append(lines, strings.ReplaceAll(strings.Trim(span, "`"), "\n", " "))
		}
		for _, line := range lines {
			for _, words := range split(line) {
				all = append(all, command{d.name, words})
			}
		}
	}
	return all
}

// split splits a line into commands, and each into words. It is no shell: quotes keep words
// together, and go.
func split(line string) [][]string {
	var all [][]string
	var words []string
	var word strings.Builder
	quote, started := rune(0), false
	end := func() {
		if started {
			words = append(words, word.String())
			word.Reset()
			started = false
		}
	}
	for _, c := range line + "\n" {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, started = c, true
		case c == '#' && !started, c == '\n':
			end()
			if len(words) > 0 {
				all = append(all, words)
			}
			return all
		case strings.ContainsRune("|;&", c):
			end()
			if len(words) > 0 {
				all, words = append(all, words), nil
			}
		case c == ' ' || c == '\t':
			end()
		default:
			word.WriteRune(c)
			started = true
		}
	}
	return all
}

// help is what a program of ours says to --help, after words of a command; once for each.
var help = func() func(t *testing.T, program string, verb ...string) string {
	var mutex sync.Mutex
	said := map[string]string{}
	return func(t *testing.T, program string, verb ...string) string {
		t.Helper()
		mutex.Lock()
		defer mutex.Unlock()
		key := strings.Join(append([]string{program}, verb...), " ")
		if text, ok := said[key]; ok {
			return text
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, append(slices.Clone(verb), "--help")...)
		// The launcher has another text in `bazel run`.
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
			return strings.HasPrefix(e, "BUILD_WORKSPACE_DIRECTORY=")
		}), programVariable+"="+program)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", key, err, out)
		}
		said[key] = string(out)
		return said[key]
	}
}()

// use checks the arguments that a document gives a program of ours: its command, and its options.
func use(t *testing.T, c command, program string, args []string) {
	t.Helper()
	var verb []string
	// Commands may have commands of their own.
	for program != "kubeconfig" && program != "e2e" && len(args) > len(verb) && !strings.HasPrefix(args[len(verb)], "-") {
		if len(verb) > 0 && !strings.Contains(help(t, program, verb...), "Available Commands:") {
			break
		}
		if next := args[len(verb)]; !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(next) + ` `).MatchString(help(t, program, verb...)) {
			t.Errorf("%s: %q: %s has no command %s", c.document, strings.Join(c.words, " "), strings.Join(append([]string{program}, verb...), " "), next)
			return
		}
		verb = args[:len(verb)+1]
	}
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i] // the rest is for another program
	}
	if len(verb) > 0 && len(args) > 1 && regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(args[1])+` `).MatchString(help(t, program, verb...)) {
		verb = args[:2]
	}
	for _, arg := range args {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "-") && name != "-" && !hasOption(help(t, program, verb...), name) {
			t.Errorf("%s: %q: %s has no option %s", c.document, strings.Join(c.words, " "), strings.Join(append([]string{program}, verb...), " "), name)
		}
	}
}

func hasOption(help, name string) bool {
	return regexp.MustCompile(`(?m)(^|[\s,])` + regexp.QuoteMeta(name) + `($|[\s,=\[])`).MatchString(help)
}

var (
	// inside are the programs in the image that people start; those with true are ours, and have a
	// --help of ours.
	inside = map[string]bool{
		"docker": false, "e2e": true, "e2e.test": false, "kubeconfig": true, "kubectl": false, "loader": true, "runner": true, "cat": false, "curl": false,
	}
	ourScript    = regexp.MustCompile(`^(scripts|\.ci|images/components)/[\w/-]+$`)
	imageForm    = regexp.MustCompile(`\bdind-(?:base|node|cluster|e2e):(v[\w.-]+)`)
	configForm   = regexp.MustCompile(`--config=([\w-]+)`)
	upstreamForm = regexp.MustCompile(`(?m)^// upstream: k8s.io/kubernetes@(\S+)`)
	setForm      = regexp.MustCompile(`^(?:--env=|-e=)?([A-Z][A-Z_]+)=`)
)

// Commands are there, and take what they are given.
func TestCommands(t *testing.T) {
	bazelrc := read(t, "../.bazelrc")
	ran := map[string]int{}
	names := map[string][]string{} // of clusters, by document
	for _, c := range commands(t) {
		for i, word := range c.words {
			if word == "--name" && i+1 < len(c.words) {
				names[c.document] = append(names[c.document], c.words[i+1])
			}
		}
	}
	for _, c := range commands(t) {
		line := strings.Join(c.words, " ")
		name, args := c.words[0], c.words[1:]
		if ourScript.MatchString(name) {
			info, err := os.Stat(filepath.Join(root, name))
			if err != nil {
				t.Errorf("%s: %q: %v", c.document, line, err)
				continue
			}
			if len(args) > 0 && info.Mode()&0o111 == 0 {
				t.Errorf("%s: %q is no program", c.document, name)
			}
			ran[name]++
		}
		for _, config := range configForm.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(bazelrc, "build:"+config[1]+" ") {
				t.Errorf("%s: %q: .bazelrc has no config %s", c.document, line, config[1])
			}
		}
		switch {
		case name == "scripts/docker-engine" || name == "scripts/lock":
			usage := regexp.MustCompile(`(?m)usage: .*$`).FindString(read(t, filepath.Join(root, name)))
			if len(args) > 0 && !regexp.MustCompile(`\b`+regexp.QuoteMeta(args[0])+`\b`).MatchString(usage) {
				t.Errorf("%s: %q: %s has only %q", c.document, line, name, usage)
			}
		case (name == "scripts/bazel" || name == "bazel") && slices.Contains(args, "--"):
			i := slices.Index(args, "--")
			rest := args[i+1:]
			switch what := args[i-1]; {
			case what == "//images:dind-cluster" || what == "//images:dind-e2e":
				use(t, c, "launcher", rest)
				ran["launcher"]++
			case what == "//images:push" || strings.HasSuffix(what, ".push"):
				use(t, c, "publisher", rest)
				ran["publisher"]++
			case what == "//e2e/host":
				// What comes after its options is for a program in it.
				if i := slices.IndexFunc(rest, func(s string) bool { return !strings.HasPrefix(s, "-") }); i >= 0 {
					rest = rest[:i]
				}
				use(t, c, "host", rest)
				ran["host"]++
			default:
				t.Errorf("%s: %q: this test does not know what %s takes", c.document, line, what)
			}
		case (name == "docker" || name == "scripts/docker") && len(args) > 2 && args[0] == "exec":
			args = args[1:]
			for len(args) > 0 && strings.HasPrefix(args[0], "-") {
				args = args[1:]
			}
			if len(args) < 2 {
				t.Errorf("%s: %q runs nothing", c.document, line)
				continue
			}
			program, rest := args[1], args[2:]
			if i := slices.IndexFunc(rest, func(s string) bool { return strings.ContainsAny(s[:1], "<>") || s == "2>" }); i >= 0 {
				rest = rest[:i]
			}
			ours, known := inside[program]
			if !known {
				t.Errorf("%s: %q: this test knows no program %s in the image", c.document, line, program)
			} else if ours {
				use(t, c, program, rest)
			}
			ran[program]++
		case name == "kubectl":
			if i := slices.Index(args, "--context"); i >= 0 && i+1 < len(args) {
				var contexts []string
				for _, n := range append([]string{host.DefaultName}, names[c.document]...) {
					contexts = append(contexts, host.ContextName(n))
				}
				if !slices.Contains(contexts, args[i+1]) {
					t.Errorf("%s: %q: the contexts are %q", c.document, line, contexts)
				}
				ran["--context"]++
			}
		}
	}
	for _, name := range []string{
		"scripts/bazel", "scripts/docker", "scripts/docker-engine", "scripts/lock", ".ci/run", "launcher", "publisher", "kubectl",
		"kubeconfig", "runner", "loader", "e2e", "host", "--context",
	} {
		if ran[name] == 0 {
			t.Errorf("the documents have no command with %s: the test does not find them any more", name)
		}
	}
}

// The version in names of images is the one that is built.
func TestVersion(t *testing.T) {
	upstream := upstreamForm.FindStringSubmatch(read(t, "../kubernetes/1.37/go.mod"))
	if upstream == nil {
		t.Fatal("the lock does not say what it is for")
	}
	for _, d := range documents(t) {
		for _, image := range imageForm.FindAllStringSubmatch(d.text, -1) {
			if image[1] != upstream[1] {
				t.Errorf("%s: %s: the version is %s", d.name, image[0], upstream[1])
			}
		}
	}
}

// The versions in the table of what is supported are those in the code.
func TestSupport(t *testing.T) {
	upstream := upstreamForm.FindStringSubmatch(read(t, "../kubernetes/1.37/go.mod"))
	if upstream == nil {
		t.Fatal("the lock has no line on what it is for")
	}
	text := read(t, "support.md")
	for _, want := range []string{
		"| Docker Engine | " + docker.MinVersion + " or later (API " + docker.MinAPI + ")",
		"| Bazel | " + strings.TrimSpace(read(t, "../.bazelversion")) + " or ",
		"| Kubernetes | " + upstream[1] + " |",
		fmt.Sprintf("| nodes | 1 to %d |", v1alpha1.MaxNodes),
		fmt.Sprintf("| disk | 1 GiB, and %d MiB for each", (settings.Disk(2)-settings.Disk(1))>>20),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/support.md does not have %q", want)
		}
	}
	if settings.Disk(1) != 1<<30 {
		t.Errorf("one node takes %d bytes, and docs/support.md has 1 GiB", settings.Disk(1))
	}
}

var directoryForm = regexp.MustCompile(`\b(?:cluster|debs|image|images|internal|kubernetes|third_party|tools)/[\w./]*`)

// Directories in the picture of the tree are there. Only the checkout has them all, not what Bazel
// puts beside a test.
func TestTree(t *testing.T) {
	if _, err := os.Stat("../go.sum"); err != nil {
		t.Skip("not in the checkout: run go test ./docs")
	}
	_, tree, _ := strings.Cut(read(t, "how-it-works.md"), "## The tree")
	tree, _, _ = strings.Cut(tree, "\n## From source")
	found := directoryForm.FindAllString(tree, -1)
	for _, directory := range found {
		if _, err := os.Stat(filepath.Join(root, directory)); err != nil {
			t.Error(err)
		}
	}
	if len(found) < 20 {
		t.Errorf("the picture names %q only: the test does not find them any more", found)
	}
}

var update = flag.Bool("update", false, "write the generated parts of docs/settings.md")

// The reference is what the programs' own tables and help texts make of it.
func TestReference(t *testing.T) {
	var table strings.Builder
	table.WriteString("| Variable | Values | Default | |\n|---|---|---|---|\n")
	for _, s := range settings.All() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", s.Name, s.Values, value, s.Doc)
	}
	var usage strings.Builder
	for _, verb := range []string{
		"create", "delete", "list", "load", "logs", "kubeconfig", "node add", "node remove", "node restart", "node stop", "node start",
		"node list", "scale", "pause", "unpause", "wait", "status", "exec", "cp",
		"snapshot save", "snapshot restore", "snapshot inspect", "forward",
	} {
		text := strings.TrimSpace(help(t, "launcher", strings.Fields(verb)...))
		fmt.Fprintf(&usage, "%s\n\n\n", text)
	}
	file := "settings.md"
	got := read(t, file)
	want := generated(t, generated(t, got, "settings", table.String()), "launcher",
		"<!-- not run: help texts -->\n\n```\n"+strings.TrimSpace(usage.String())+"\n```")
	switch {
	case got == want:
	case *update:
		// bazel run has the checkout there; the go command runs tests in it.
		if workspace := os.Getenv("BUILD_WORKSPACE_DIRECTORY"); workspace != "" {
			file = filepath.Join(workspace, "docs", file)
		}
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("docs/settings.md is out of date; to write it: bazel run //docs:docs_test.update, or "+
			"go test ./docs -run TestReference -update. It should be\n%s", want)
	}
}

// generated puts content between the comments that enclose a generated part of a document.
func generated(t *testing.T, text, name, content string) string {
	t.Helper()
	begin, end := "<!-- generated: "+name+" -->\n", "<!-- end -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("docs/settings.md has no %q with %q after it", begin, end)
	}
	return before + begin + "\n" + strings.TrimSpace(content) + "\n\n" + end + after
}

// Each code block has a mark, what is marked as shell parses, and what needs no Docker works.
func TestBlocks(t *testing.T) {
	all, err := blocks.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	made := map[string]bool{"docker": true} // clusters, and the engine
	for _, b := range all {
		switch b.Kind {
		case blocks.NotRun:
			continue
		case blocks.New:
			made[b.Argument] = true
		case blocks.With:
			if !made[b.Argument] {
				t.Errorf("%s needs the cluster %s, and no block before it makes one", b, b.Argument)
			}
		}
		ran++
		args := []string{"-euo", "pipefail", "-c", b.Text}
		if b.Kind != blocks.Run {
			args = append([]string{"-n"}, args...)
		}
		cmd := exec.CommandContext(t.Context(), "bash", args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "CACHE_PASSWORD=secret")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s\n%s", b, err, b.Text, out)
		}
		if strings.Contains(b.Text, "CACHE_PASSWORD") {
			var answer struct {
				Headers struct{ Authorization []string }
			}
			if err := json.Unmarshal(out, &answer); err != nil || !slices.Equal(answer.Headers.Authorization, []string{"Basic Y2k6c2VjcmV0"}) {
				t.Errorf("%s: the credential helper prints %q: %v", b, out, err)
			}
		}
	}
	if ran < 10 {
		t.Errorf("the documents have %d blocks to run: the test does not find them any more", ran)
	}
}

// What documents set with --env is a setting.
func TestEnvironment(t *testing.T) {
	count := 0
	for _, c := range commands(t) {
		for i, word := range c.words {
			if word != "--env" && word != "-e" || i+1 == len(c.words) {
				continue
			}
			set := setForm.FindStringSubmatch(c.words[i+1])
			if set == nil || set[1] == "NAME" {
				continue
			}
			count++
			if !settings.IsSetting(set[1]) && !strings.HasSuffix(set[1], "_PROXY") {
				t.Errorf("%s: %q: there is no setting %s", c.document, strings.Join(c.words, " "), set[1])
			}
		}
	}
	if count == 0 {
		t.Error("the documents set nothing: the test does not find it any more")
	}
}

var optionForm = regexp.MustCompile("(?m)^\\|(?: `--[^|]*)\\|")

// Tables of options name such as there are.
func TestOptions(t *testing.T) {
	conformance := read(t, "../e2e/conformance_test.go")
	for file, has := range map[string]func(option string) bool{
		"publishing.md":  func(o string) bool { return hasOption(help(t, "publisher"), o) },
		"performance.md": func(o string) bool { return hasOption(help(t, "boot_benchmark"), o) },
		"conformance.md": func(o string) bool { return strings.Contains(conformance, `"`+strings.TrimPrefix(o, "--")+`"`) },
	} {
		rows := optionForm.FindAllString(read(t, file), -1)
		if len(rows) < 5 {
			t.Errorf("%s: only %d rows with options", file, len(rows))
		}
		for _, row := range rows {
			for _, option := range regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(row, -1) {
				if !has(option) {
					t.Errorf("%s: there is no option %s", file, option)
				}
			}
		}
	}
}
