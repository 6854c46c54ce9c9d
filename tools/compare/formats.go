package compare

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// format is a kind of content that can be looked into.
type format struct {
	name string
	// same says what it means when the bytes differ but nothing in them does.
	same string
	// is tells by the first bytes whether content has this format.
	is func(head []byte) bool
	// compare gives nil when nothing in the two differs, and an error when one of them is not readable as this format.
	compare func(a, b *io.SectionReader, depth int) (*Difference, error)
}

// headLength is how many bytes formats are told apart by: up to the magic word of a tar archive and of a bolt database.
const headLength = 512

func prefix(magic string) func([]byte) bool {
	return func(head []byte) bool { return bytes.HasPrefix(head, []byte(magic)) }
}

func isStream(format string) func([]byte) bool {
	return func(head []byte) bool { return compression.Of(head) == format }
}

// formats are all of them; what is more specific comes first.
func formats() []*format {
	const compressed = "the same once uncompressed: another compressor, or another level"
	return []*format{
		{compression.Gzip, compressed, isStream(compression.Gzip), gzips},
		{compression.Zstd, compressed, isStream(compression.Zstd), streams(compression.Zstd)},
		{compression.XZ, compressed, isStream(compression.XZ), streams(compression.XZ)},
		{compression.Bzip2, compressed, isStream(compression.Bzip2), streams(compression.Bzip2)},
		{"ar", "the same members: something else around them", prefix(arMagic), archives},
		{"ELF", "the same sections: something else between them", prefix(elf.ELFMAG), programs},
		{"a bolt database", "the same keys and values: pages laid out in another way", isBolt, databases},
		{"tar", "the same entries: something else around them", isTar, tars},
		{"JSON", "the same values: written in another way", isJSON, documents},
	}
}

// formatOf is the format that both contents have, or nil.
func formatOf(a, b *io.SectionReader) *format {
	headA, headB := head(a), head(b)
	for _, f := range formats() {
		if f.is(headA) && f.is(headB) {
			return f
		}
	}
	return nil
}

func head(s *io.SectionReader) []byte {
	buf := make([]byte, headLength)
	n, _ := s.ReadAt(buf, 0)
	return buf[:n]
}

func isTar(head []byte) bool {
	return len(head) == headLength && bytes.Equal(head[257:262], []byte("ustar"))
}

func isBolt(head []byte) bool {
	// A page's header has 16 bytes; the first page is a meta page, which begins with the magic word.
	return len(head) > 20 && binary.NativeEndian.Uint32(head[16:]) == 0xED0CDAED
}

func isJSON(head []byte) bool {
	head = bytes.TrimLeft(head, " \t\r\n")
	return len(head) > 0 && (head[0] == '{' || head[0] == '[')
}

// maxDocument bounds a JSON document, in bytes: it is kept in memory.
const maxDocument = 512 << 20

// documents compares two JSON documents, the members of objects in the order of their names.
func documents(a, b *io.SectionReader, _ int) (*Difference, error) {
	valueA, err := document(a)
	if err != nil {
		return nil, err
	}
	valueB, err := document(b)
	if err != nil {
		return nil, err
	}
	return values("", valueA, valueB), nil
}

func document(s *io.SectionReader) (any, error) {
	if s.Size() > maxDocument {
		return nil, fmt.Errorf("more than %d bytes", maxDocument)
	}
	d := json.NewDecoder(io.NewSectionReader(s, 0, s.Size()))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something after the value, at byte %d", d.InputOffset())
	}
	return v, nil
}

func values(path string, a, b any) *Difference {
	differ := func() *Difference {
		if path == "" {
			path = "value"
		}
		d := &Difference{What: path}
		d.A, d.B = valueTexts(a, b)
		return d
	}
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return differ()
		}
		var names []string
		for name := range a {
			names = append(names, name)
		}
		for name := range b {
			if _, ok := a[name]; !ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			inner := path + memberPath(name)
			if path == "" {
				inner = strings.TrimPrefix(inner, ".")
			}
			inA, okA := a[name]
			inB, okB := b[name]
			if okA != okB {
				return &Difference{What: inner, A: memberText(inA, okA), B: memberText(inB, okB)}
			}
			if d := values(inner, inA, inB); d != nil {
				return d
			}
		}
		return nil
	case []any:
		b, ok := b.([]any)
		if !ok {
			return differ()
		}
		for i := range max(len(a), len(b)) {
			inner := fmt.Sprintf("%s[%d]", path, i)
			if i >= len(a) || i >= len(b) {
				inA, okA := element(a, i)
				inB, okB := element(b, i)
				return &Difference{What: inner, A: memberText(inA, okA), B: memberText(inB, okB)}
			}
			if d := values(inner, a[i], b[i]); d != nil {
				return d
			}
		}
		return nil
	}
	// Plain values are left. b may be of a kind that cannot be compared.
	switch b.(type) {
	case map[string]any, []any:
		return differ()
	}
	if a != b {
		return differ()
	}
	return nil
}

// memberPath leads to a member: .config, ["org.opencontainers.image.title"].
func memberPath(name string) string {
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) >= 0 {
		return fmt.Sprintf("[%q]", name)
	}
	return "." + name
}

func element(list []any, i int) (any, bool) {
	if i < len(list) {
		return list[i], true
	}
	return nil, false
}

func memberText(v any, ok bool) string {
	if !ok {
		return "nothing"
	}
	text, _ := valueTexts(v, nil)
	return text
}

// valueTexts shows two values as JSON: strings with their quotes, and of long ones the part where they differ.
func valueTexts(a, b any) (string, string) {
	text := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
	textA, textB := text(a), text(b)
	if len(textA) <= shown && len(textB) <= shown {
		return textA, textB
	}
	return sides(textA, textB)
}

// programs compares two ELF files, section by section.
func programs(a, b *io.SectionReader, depth int) (*Difference, error) {
	fileA, err := elf.NewFile(a)
	if err != nil {
		return nil, err
	}
	fileB, err := elf.NewFile(b)
	if err != nil {
		return nil, err
	}
	if d := first(
		field("type", fileA.Type, fileB.Type),
		field("machine", fileA.Machine, fileB.Machine),
	); d != nil {
		return d, nil
	}
	for i := range max(len(fileA.Sections), len(fileB.Sections)) {
		if i >= len(fileA.Sections) || i >= len(fileB.Sections) {
			return field("sections", len(fileA.Sections), len(fileB.Sections)), nil
		}
		sectionA, sectionB := fileA.Sections[i], fileB.Sections[i]
		if d := field("section", sectionA.Name, sectionB.Name); d != nil {
			return d, nil
		}
		// Contents first: they tell more than a size or an address, which an earlier section may have moved.
		if sectionA.Type != elf.SHT_NOBITS && sectionB.Type != elf.SHT_NOBITS {
			contentA, err := sectionContent(a, sectionA)
			if err != nil {
				return nil, err
			}
			contentB, err := sectionContent(b, sectionB)
			if err != nil {
				return nil, err
			}
			d, err := contents(contentA, contentB, depth)
			if err != nil || d != nil {
				return d.in("section " + sectionA.Name), err
			}
		}
		headerA, headerB := sectionA.SectionHeader, sectionB.SectionHeader
		headerA.Offset, headerB.Offset = 0, 0
		if d := field("header", fmt.Sprintf("%+v", headerA), fmt.Sprintf("%+v", headerB)); d != nil {
			return d.in("section " + sectionA.Name), nil
		}
	}
	return field("entry point", fileA.Entry, fileB.Entry), nil
}

// sectionContent is a section as it lies in the file, compressed or not.
func sectionContent(file *io.SectionReader, s *elf.Section) (*io.SectionReader, error) {
	size := uint64(file.Size())
	if s.Offset > size || s.FileSize > size-s.Offset {
		return nil, fmt.Errorf("section %s is cut off", s.Name)
	}
	return io.NewSectionReader(file, int64(s.Offset), int64(s.FileSize)), nil
}

const (
	arMagic        = "!<arch>\n"
	arHeaderLength = 60
)

// arFields are the fields of a member's header by their ends, as ar(5) has them.
var arFields = []struct {
	name       string
	start, end int
}{
	{"name", 0, 16},
	{"modification time", 16, 28},
	{"owner", 28, 34},
	{"group", 34, 40},
	{"mode", 40, 48},
	{"size", 48, 58},
}

// archives compares two ar archives, member for member.
func archives(a, b *io.SectionReader, depth int) (*Difference, error) {
	offset := int64(len(arMagic))
	for {
		headerA, err := arHeader(a, offset)
		if err != nil {
			return nil, err
		}
		headerB, err := arHeader(b, offset)
		if err != nil {
			return nil, err
		}
		if headerA == nil && headerB == nil {
			return nil, nil
		}
		if d := field("member", at(headerA, 0), at(headerB, 0)); d != nil {
			return d, nil
		}
		member := headerA[0]
		var other *Difference
		for i, f := range arFields {
			if d := field(f.name, headerA[i], headerB[i]); d != nil {
				other = d
				break
			}
		}
		if other != nil && other.What != "size" {
			return other.in(member), nil
		}
		sizeA, err := strconv.ParseInt(headerA[5], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", member, err)
		}
		sizeB, err := strconv.ParseInt(headerB[5], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", member, err)
		}
		start := offset + arHeaderLength
		if sizeA < 0 || sizeB < 0 || sizeA > a.Size()-start || sizeB > b.Size()-start {
			return nil, fmt.Errorf("%s is cut off", member)
		}
		d, err := contents(io.NewSectionReader(a, start, sizeA), io.NewSectionReader(b, start, sizeB), depth)
		if err != nil || d != nil {
			return d.in(member), err
		}
		// The same contents have the same size; members are padded to even offsets.
		offset = start + sizeA + sizeA%2
	}
}

// arHeader gives the fields of the header at an offset, nil at the end.
func arHeader(s *io.SectionReader, offset int64) ([]string, error) {
	buf := make([]byte, arHeaderLength)
	n, err := s.ReadAt(buf, offset)
	if n == 0 && err == io.EOF {
		return nil, nil
	}
	if n < arHeaderLength || string(buf[58:]) != "`\n" {
		return nil, fmt.Errorf("no header at byte %d", offset)
	}
	var fields []string
	for _, f := range arFields {
		fields = append(fields, strings.TrimRight(string(buf[f.start:f.end]), " "))
	}
	if fields[0] == "" {
		return nil, fmt.Errorf("a member without a name at byte %d", offset)
	}
	return fields, nil
}

// maxText bounds what is taken for text, in bytes: it is kept in memory.
const maxText = 64 << 20

// lines is the difference of two texts, or nil if one of them is none. At is the first byte that is not the same.
func lines(a, b *io.SectionReader, at int64) (*Difference, error) {
	if a.Size() > maxText || b.Size() > maxText {
		return nil, nil
	}
	textA, err := text(a)
	if err != nil || textA == nil {
		return nil, err
	}
	textB, err := text(b)
	if err != nil || textB == nil {
		return nil, err
	}
	number := 1 + bytes.Count(textA[:at], []byte("\n"))
	start := 1 + bytes.LastIndexByte(textA[:at], '\n')
	line := func(text []byte) string {
		line, _, _ := bytes.Cut(text[start:], []byte("\n"))
		return string(line)
	}
	d := &Difference{What: fmt.Sprintf("line %d", number)}
	switch {
	case start == len(textA):
		d.A, d.B = "the end", quote(line(textB))
	case start == len(textB):
		d.A, d.B = quote(line(textA)), "the end"
	case line(textA) == line(textB):
		// Only one of the two ends with a newline.
		return nil, nil
	default:
		d.A, d.B = sides(line(textA), line(textB))
	}
	return d, nil
}

// text reads a text; nil if the content is none.
func text(s *io.SectionReader) ([]byte, error) {
	if h := head(s); bytes.IndexByte(h, 0) >= 0 {
		return nil, nil
	}
	data := make([]byte, s.Size())
	if _, err := s.ReadAt(data, 0); err != nil && err != io.EOF {
		return nil, err
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, nil
	}
	return data, nil
}
