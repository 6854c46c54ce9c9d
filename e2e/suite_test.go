package e2e

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// suiteResults is where the e2e program in the image writes, unless it is told otherwise.
const suiteResults = "/e2e-results"

// outputs is the directory for what people look at after the test.
func outputs(t *testing.T) string {
	dir := os.Getenv("TEST_UNDECLARED_OUTPUTS_DIR")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dind-cluster-e2e-"); err != nil {
			t.Fatal(err)
		}
		t.Logf("results: %s", dir)
	}
	return dir
}

// runSuite runs specs with the e2e program of the image, and copies its results to a directory,
// whatever came out. The error is the program's.
func (b *box) runSuite(ctx context.Context, t *testing.T, directory string, args ...string) error {
	t.Helper()
	follow := b.followSuite(t, directory)
	// Not with the test's context, whose end would end the client, not the specs. They end with
	// their standard input, and so even if this process is killed.
	cmd := b.command("--interactive", append([]string{"e2e", "--stop-on-eof"}, args...)...)
	log := &lineWriter{t: t}
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		stdin.Close()
		writing, cancel := cleanup(t)
		defer cancel()
		select {
		case <-done:
		case <-writing.Done():
			t.Errorf("the e2e program did not end when it was asked to: %v", context.Cause(writing))
			cmd.Process.Kill()
			<-done
		}
		err = context.Cause(ctx)
	}
	follow()
	copying, cancel := cleanup(t)
	defer cancel()
	if err := b.launcher.Docker.Do(copying, "copy the results", "cp", b.name+":"+suiteResults+"/.", directory); err != nil {
		t.Error(err)
	}
	return err
}

// command is `docker exec` in the cluster's container, with an option of it.
func (b *box) command(option string, args ...string) *exec.Cmd {
	return exec.Command(b.launcher.Docker.Path, append([]string{"exec", option, b.name}, args...)...)
}

// followSuite copies what the e2e program writes while it runs, so that it is there even if this
// process is killed: `e2e report` makes a summary of these files. It goes on until the function
// that it returns is called.
func (b *box) followSuite(t *testing.T, directory string) (stop func()) {
	var commands []*exec.Cmd
	var wg sync.WaitGroup
	for _, name := range []string{"e2e.log", "progress.jsonl", "run.json"} {
		file, err := os.Create(filepath.Join(directory, name))
		if err != nil {
			t.Fatal(err)
		}
		cmd := b.command("--interactive=false", "tail", "--bytes=+1", "--follow=name", "--retry", "--quiet", suiteResults+"/"+name)
		cmd.Stdout = file
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, cmd)
		wg.Go(func() {
			defer file.Close()
			cmd.Wait()
		})
	}
	return func() {
		ctx, cancel := cleanup(t)
		defer cancel()
		// The clients do not end what they have started.
		if _, err := b.launcher.Docker.Exec(ctx, b.name, "pkill", "-x", "tail"); err != nil {
			t.Log(err)
		}
		for _, cmd := range commands {
			cmd.Process.Kill()
		}
		wg.Wait()
	}
}

// readJUnit returns the status of each spec that was run, by its name.
func readJUnit(directory string) (map[string]string, error) {
	path := filepath.Join(directory, "junit_01.xml")
	report, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(report, &suites); err != nil {
		return nil, fmt.Errorf("cannot read the JUnit report %s: %w", path, err)
	}
	results := map[string]string{}
	for _, suite := range suites.Suites {
		for _, c := range suite.Cases {
			if name, ok := strings.CutPrefix(c.Name, "[It] "); ok && c.Status != "skipped" {
				results[name] = c.Status
			}
		}
	}
	return results, nil
}
