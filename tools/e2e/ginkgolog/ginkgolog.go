// Package ginkgolog reads what `ginkgo run -v --no-color` prints, as it comes, and reports which
// specs have ended, and how.
//
// Ginkgo's report has more, but it is written at the end only, and not at all by a run that is
// killed. e2e.test can post its progress to a URL, but leaves out specs that time out or panic, and
// does not tell a flake from a pass.
//
// For each spec that has ended, Ginkgo prints a block between two lines of dashes:
//
//   - [FAILED] [12.345 seconds]
//     [sig-node] Pods [It] should get a host IP [Conformance] [sig-node, Conformance]
//     test/e2e/common/node/pods.go:204
//
// followed by what the spec has written, and why it failed. When only one process runs specs, the
// name comes in a block of its own when the spec starts, and the first line, alone if the spec
// passed, when it ends. Since specs write what they like, a name counts only if it is one of those
// that were planned.
package ginkgolog

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

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
	place  = regexp.MustCompile(`^  In \[([^\]]+)\] at: (\S+):([0-9]+)(?: @ .*)?$`)
)

// Parser reads line by line. Its zero value is not usable.
type Parser struct {
	specs map[string]string
	emit  func(types.SpecReport)

	// afterDelimiter reports whether the last line was one.
	afterDelimiter bool
	// running is the spec that has started, where only one process runs them.
	running string
	// open is the block that has begun, nil if there is none; named reports whether its name was
	// read.
	open   *types.SpecReport
	named  bool
	output bytes.Buffer
	cut    int
	// partial is a line that has not ended.
	partial []byte
}

// New returns a Parser that calls emit for each of the specs that has ended, and for steps of the
// suite that did not pass. Their reports are what Ginkgo's own would be, as far as the log tells: a
// spec's LeafNodeText is its full name, its CapturedGinkgoWriterOutput all that was printed for it
// unless it passed at once, and only RunTime says when it ran.
func New(specs []results.Planned, emit func(types.SpecReport)) *Parser {
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
	// Ginkgo does not repeat the one that ends a progress report, which is indented; inside of a
	// block that is a spec's.
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
	took, err := time.ParseDuration(m[4] + "s")
	r := &types.SpecReport{LeafNodeType: types.NodeTypeIt, State: types.SpecStatePassed, RunTime: took, NumAttempts: 1}
	if m[1] != "" {
		r.LeafNodeType = nodeType(m[1])
	}
	if f := flaky.FindStringSubmatch(m[3]); f != nil {
		r.NumAttempts, _ = strconv.Atoi(f[1])
		r.MaxFlakeAttempts = r.NumAttempts
	} else if m[2] == "" && m[3] != "" {
		_ = r.State.UnmarshalJSON(quoted(strings.ToLower(m[3])))
	}
	if err != nil || r.LeafNodeType == types.NodeTypeInvalid || r.State == types.SpecStateInvalid {
		return false
	}
	p.open, p.named = r, false
	if r.State == types.SpecStatePassed && p.running != "" && !isStep(r) {
		r.LeafNodeText, p.named = p.running, true
		p.end()
	}
	return true
}

func nodeType(s string) (t types.NodeType) {
	_ = t.UnmarshalJSON(quoted(s))
	return t
}

func quoted(s string) []byte {
	data, _ := json.Marshal(s)
	return data
}

// isStep reports whether a report is of a step of the whole suite, such as SynchronizedBeforeSuite.
func isStep(r *types.SpecReport) bool { return r.LeafNodeType.Is(types.NodeTypesForSuiteLevelNodes) }

// name reads the line after the first.
func (p *Parser) name(line string) {
	p.named = true
	r := p.open
	if !isStep(r) {
		r.LeafNodeText = p.specs[key(line)]
	}
	switch {
	case !isStep(r) && r.LeafNodeText == "", isStep(r) && r.State == types.SpecStatePassed:
		p.open = nil
	case r.State == types.SpecStatePassed && r.NumAttempts == 1:
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
	if !isStep(r) {
		p.running = ""
	}
	text := p.output.String()
	if p.cut > 0 {
		text = text[:maxOutput/2] + "\n… " + strconv.Itoa(p.cut) + " bytes left out …\n" + text[maxOutput/2:]
	}
	p.output.Reset()
	p.cut = 0
	if !p.named {
		return
	}
	if r.State != types.SpecStatePassed || r.NumAttempts > 1 {
		r.CapturedGinkgoWriterOutput = text
	}
	if f := failure(text); r.State != types.SpecStatePassed {
		r.Failure = f
	} else if f.Message != "" { // of an earlier attempt
		r.AdditionalFailures = []types.AdditionalFailure{{State: types.SpecStateFailed, Failure: f}}
	}
	p.emit(*r)
}

// failure finds the message and its place: the first one after what the spec has written itself.
func failure(text string) (f types.Failure) {
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
			f.FailureNodeType, f.Location.FileName = nodeType(m[1]), m[2]
			f.Location.LineNumber, _ = strconv.Atoi(m[3])
			break
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	f.Message = strings.TrimSpace(strings.Join(out, "\n"))
	return f
}
