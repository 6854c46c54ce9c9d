package progress

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	p := New(&out)
	p.Step("joining").Done("")
	p.Step("loading").Done("%d images", 7)
	s := p.Step("waiting")
	s.Fail("deadline passed")
	s.Done("a step ends once")
	p.Printf("note")
	var nothing *Printer
	nothing.Step("silent").Done("")
	nothing.Printf("silent")

	want := []string{
		`^\[ +\d+\.\ds\] \+ joining \(\d+ ms\)$`,
		`^\[ +\d+\.\ds\] \+ loading: 7 images \(\d+ ms\)$`,
		`^\[ +\d+\.\ds\] ! waiting: deadline passed \(\d+ ms\)$`,
		`^\[ +\d+\.\ds\]   note$`,
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, w := range want {
		if !regexp.MustCompile(w).MatchString(lines[i]) {
			t.Errorf("line %d is %q, want %s", i, lines[i], w)
		}
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 364_000_000: "364 MB", 2_100_000_000: "2.1 GB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{4 * time.Millisecond: "4 ms", 1250 * time.Millisecond: "1.25 s", 123 * time.Second: "2m3s"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d) = %q, want %q", d, got, want)
		}
	}
}
