package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Lines as Bazel 7.7.1 writes them, shortened.
const (
	configured  = `{"id":{"targetConfigured":{"label":"LABEL"}},"configured":{"targetKind":"go_test rule","testSize":"SMALL"}}`
	binary      = `{"id":{"targetConfigured":{"label":"LABEL"}},"configured":{"targetKind":"go_binary rule"}}`
	passed      = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":1,"attempt":1}},"testResult":{"testActionOutput":[{"name":"test.log","uri":"file:///x"},{"name":"test.xml","uri":"file://DIR/test.xml"}],"status":"PASSED"}}`
	failedFirst = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":1,"attempt":1}},"testResult":{"testActionOutput":[{"name":"test.xml","uri":"file://DIR/failed.xml"}],"status":"FAILED"}}`
	passedLater = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":1,"attempt":2}},"testResult":{"testActionOutput":[{"name":"test.xml","uri":"file://DIR/test.xml"}],"status":"PASSED"}}`
	secondShard = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":2,"attempt":1}},"testResult":{"testActionOutput":[{"name":"test.xml","uri":"file://DIR/failed.xml"}],"status":"FAILED"}}`
	timeout     = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":1,"attempt":1}},"testResult":{"testActionOutput":[{"name":"test.xml","uri":"file://DIR/test.xml"}],"status":"TIMEOUT"}}`
	noXML       = `{"id":{"testResult":{"label":"LABEL","run":1,"shard":1,"attempt":1}},"testResult":{"status":"PASSED"}}`
	incapable   = `{"id":{"targetCompleted":{"label":"LABEL"}},"aborted":{"reason":"SKIPPED"}}`
	unbuilt     = `{"id":{"targetCompleted":{"label":"LABEL"}},"completed":{"failureDetail":{"message":"no"}}}`
)

var files = map[string]string{
	"test.xml": `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite errors="0" failures="0" skipped="1" tests="3">
  <testcase name="TestA"></testcase><testcase name="TestA/sub"/><testcase name="TestB"><skipped message="no root"></skipped></testcase>
</testsuite></testsuites>`,
	"failed.xml": `<testsuites><testsuite><testcase name="a" status="run"><error message="exited with error code 1"></error></testcase>
<testcase name="b"><failure message="Failed">x &lt; y</failure></testcase><testcase name="c" status="notrun"/><testcase name="d"/></testsuite></testsuites>`,
	"broken.xml": `<testsuites><testcase`,
}

func TestCount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []string
		want   string
		unrun  int
	}{
		{name: "nothing", want: "0 passed, 0 failed"},
		{name: "no test", events: []string{binary}, want: "0 passed, 0 failed"},
		{name: "cases", events: []string{configured, passed}, want: "2 passed, 0 failed, 1 skipped"},
		{name: "a cached test", events: []string{passed}, want: "2 passed, 0 failed, 1 skipped"},
		{name: "a target without cases", events: []string{configured, noXML}, want: "1 passed, 0 failed"},
		{name: "a flaky test", events: []string{configured, failedFirst, passedLater}, want: "2 passed, 0 failed, 1 skipped"},
		{name: "attempts the other way round", events: []string{passedLater, failedFirst}, want: "2 passed, 0 failed, 1 skipped"},
		{name: "shards", events: []string{passed, secondShard}, want: "3 passed, 2 failed, 2 skipped"},
		{name: "a timeout between passing cases", events: []string{configured, timeout}, want: "2 passed, 1 failed, 1 skipped"},
		{name: "a test that does not build", events: []string{configured, unbuilt}, want: "0 passed, 1 failed", unrun: 1},
		{name: "a test for another platform", events: []string{configured, incapable}, want: "0 passed, 0 failed, 1 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := countFile(eventFile(t, tt.events...))
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want || len(got.unrun) != tt.unrun {
				t.Errorf("got %v, not run %v; want %s, %d", got, got.unrun, tt.want, tt.unrun)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for name, path := range map[string]string{
		"no file":        filepath.Join(t.TempDir(), "none"),
		"a cut line":     eventFile(t, configured[:40]),
		"not JSON":       eventFile(t, "hello"),
		"broken results": eventFile(t, strings.ReplaceAll(passed, "test.xml\"}", "broken.xml\"}")),
	} {
		if got, err := countFile(path); err == nil {
			t.Errorf("%s: got %v, want an error", name, got)
		}
	}
}

// eventFile writes events about one target, and the results they point at.
func eventFile(t *testing.T, events ...string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("LABEL", "//a:b_test", "DIR", dir).Replace(strings.Join(events, "\n"))
	path := filepath.Join(dir, "events.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
