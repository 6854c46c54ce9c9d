// Package ginkgolog reads what `ginkgo run -v --no-color` prints, as it comes, and tells which specs have ended, and how.
//
// Ginkgo's report has more, but it is written at the end only, and not at all by a run that is killed. e2e.test can post
// its progress to a URL, but leaves out specs that time out or panic, and does not tell a flake from a pass.
//
// For each spec that has ended, Ginkgo prints a block between two lines of dashes:
//
//   - [FAILED] [12.345 seconds]
//     [sig-node] Pods [It] should get a host IP [Conformance] [sig-node, Conformance]
//     test/e2e/common/node/pods.go:204
//
// followed by what the spec has written, and why it failed. When only one process runs specs, the name comes in a block of its own
// when the spec starts, and the first line, alone if the spec passed, when it ends. Since specs write what they like, a
// name counts only if it is one of those that were planned.
package ginkgolog

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// Spec is one that may come.
type Spec struct {
	Name   string
	Labels []string
}

// Record is a spec, or a step of the whole suite, that has ended.
type Record struct {
	// Name is the spec's full name, or the step's type in brackets, such as [SynchronizedBeforeSuite].
	Name string
	// Setup tells that it is a step of the whole suite.
	Setup bool
	// State is Ginkgo's word in lower case: passed, failed, timedout, panicked, aborted, interrupted, skipped.
	State string
	// Seconds is how long it ran.
	Seconds float64
	// Attempts is how often it was tried until it passed; 1 if that is not said.
	Attempts int
	// Message is what the failed assertion said, or why the spec skipped itself.
	Message string
	// Node is the part that failed, such as It, and Location FILE:LINE of the failure.
	Node, Location string
	// Output is all that was printed for it; empty if it plainly passed.
	Output string
}

// maxOutput is how many bytes of a spec's output are kept, the first and the last half of it.
const maxOutput = 512 << 10

// delimiter stands between blocks.
const delimiter = "------------------------------"

var (
	header = regexp.MustCompile(`^(?:•|↺|S|\[([A-Za-z ()]+)\])(?: (PASSED))?(?: \[([^\[\]]+)\])?(?: DURING REPETITION #[0-9]+)? \[([0-9]+(?:\.[0-9]+)?) seconds\]$`)
	flaky  = regexp.MustCompile(`^FLAKEY TEST - TOOK ([0-9]+) ATTEMPTS TO PASS$`)
	// node is how the part that failed is marked in a name.
	node = regexp.MustCompile(` ?\[(?:It|BeforeEach|JustBeforeEach|AfterEach|JustAfterEach|BeforeAll|AfterAll|DeferCleanup \((?:Each|All)\))\]`)
	// reason and place frame a failure's message.
	reason = regexp.MustCompile(`^  \[(?:FAILED|TIMEDOUT|PANICKED|ABORTED|INTERRUPTED|SKIPPED)\] (.*)$`)
	place  = regexp.MustCompile(`^  In \[([^\]]+)\] at: (\S+)(?: @ .*)?$`)
)

// Parser reads line by line. Its zero value is not usable.
type Parser struct {
	specs map[string]string
	emit  func(Record)

	// afterDelimiter tells that the last line was one.
	afterDelimiter bool
	// running is the spec that has started, where only one process runs them.
	running string
	// open is the block that has begun, nil if there is none; named tells that its name was read.
	open   *Record
	named  bool
	output bytes.Buffer
	cut    int
	// partial is a line that has not ended.
	partial []byte
}

// New returns a Parser that calls emit for each of the specs that has ended, and for steps of the suite that did not pass.
func New(specs []Spec, emit func(Record)) *Parser {
	p := &Parser{specs: make(map[string]string, 2*len(specs)), emit: emit}
	for _, s := range specs {
		p.specs[key(s.Name)] = s.Name
		if len(s.Labels) > 0 {
			p.specs[key(s.Name+" ["+strings.Join(s.Labels, ", ")+"]")] = s.Name
		}
	}
	return p
}

// key is a name without the mark of the part that failed.
func key(name string) string {
	name = strings.TrimPrefix(name, "TOP-LEVEL ")
	return strings.Join(strings.Fields(node.ReplaceAllString(name, "")), " ")
}

// maxLine is how many bytes of a line are looked at.
const maxLine = 64 << 10

// Write reads a piece of the output. It never fails.
func (p *Parser) Write(data []byte) (int, error) {
	n := len(data)
	for {
		i := bytes.IndexByte(data, '\n')
		part := data
		if i >= 0 {
			part = data[:i]
		}
		p.partial = append(p.partial, part[:min(len(part), maxLine-min(maxLine, len(p.partial)))]...)
		if i < 0 {
			return n, nil
		}
		line := string(p.partial)
		p.partial, data = p.partial[:0], data[i+1:]
		p.line(line)
	}
}

// Close reads the end of the output.
func (p *Parser) Close() {
	if len(p.partial) > 0 {
		p.line(string(p.partial))
		p.partial = nil
	}
	p.end()
}

func (p *Parser) line(line string) {
	// Ginkgo does not repeat the one that ends a progress report, which is indented; inside of a block that is a spec's.
	if line == delimiter || p.open == nil && line == "  "+delimiter {
		p.end()
		p.afterDelimiter = true
		return
	}
	first := p.afterDelimiter
	p.afterDelimiter = false
	switch {
	case p.open == nil && (first || p.running != ""):
		if p.begin(line) {
			return
		}
		if name := p.specs[key(line)]; first && name != "" {
			p.running = name
		}
	case p.open != nil && !p.named:
		p.name(line)
	case p.open != nil:
		p.keep(line)
	}
}

// begin opens a block if the line is the first of one.
func (p *Parser) begin(line string) bool {
	m := header.FindStringSubmatch(line)
	if m == nil {
		return false
	}
	step, passed, word := m[1], m[2] != "" || m[3] == "", m[3]
	seconds, err := strconv.ParseFloat(m[4], 64)
	if err != nil {
		return false
	}
	r := &Record{State: strings.ToLower(word), Seconds: seconds, Attempts: 1}
	if f := flaky.FindStringSubmatch(word); f != nil {
		passed = true
		r.Attempts, _ = strconv.Atoi(f[1])
	}
	if passed {
		r.State = "passed"
	}
	if step != "" {
		r.Name, r.Setup = "["+step+"]", true
	}
	p.open, p.named = r, false
	if passed && p.running != "" && step == "" {
		r.Name, p.named = p.running, true
		p.end()
	}
	return true
}

// name reads the line after the first.
func (p *Parser) name(line string) {
	p.named = true
	r := p.open
	if !r.Setup {
		r.Name = p.specs[key(line)]
	}
	switch {
	case r.Name == "" || r.Setup && r.State == "passed":
		p.open = nil
	case r.State == "passed" && r.Attempts == 1:
		p.end()
	}
}

func (p *Parser) keep(line string) {
	p.output.WriteString(line)
	p.output.WriteByte('\n')
	// The first half stays; of the rest, what is newest.
	if over := p.output.Len() - maxOutput; over > maxOutput/4 {
		data := p.output.Bytes()
		tail := append([]byte(nil), data[maxOutput/2+over:]...)
		p.output.Truncate(maxOutput / 2)
		p.output.Write(tail)
		p.cut += over
	}
}

// end closes the block.
func (p *Parser) end() {
	r := p.open
	if r == nil {
		return
	}
	p.open = nil
	if !r.Setup {
		p.running = ""
	}
	text := p.output.String()
	if p.cut > 0 {
		text = text[:maxOutput/2] + "\n… " + strconv.Itoa(p.cut) + " bytes left out …\n" + text[maxOutput/2:]
	}
	p.output.Reset()
	p.cut = 0
	if !p.named || r.Name == "" {
		return
	}
	if r.State != "passed" || r.Attempts > 1 {
		r.Output = text
		r.Message, r.Node, r.Location = failure(text)
	}
	p.emit(*r)
}

// failure finds the message and its place: the first one after what the spec has written itself.
func failure(text string) (message, node, location string) {
	const written = "\n  << Timeline\n"
	if i := strings.LastIndex(text, written); i >= 0 {
		text = text[i+len(written):]
	}
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if out == nil {
			if m := reason.FindStringSubmatch(line); m != nil {
				out = []string{m[1]}
			}
			continue
		}
		if m := place.FindStringSubmatch(line); m != nil {
			return strings.TrimSpace(strings.Join(out, "\n")), m[1], m[2]
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	return strings.TrimSpace(strings.Join(out, "\n")), "", ""
}
