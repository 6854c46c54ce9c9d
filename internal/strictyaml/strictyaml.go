// Package strictyaml decodes YAML files that people write: what it does not understand is an error with line, field and what
// is allowed there, and all errors of a file are found at once.
//
// sigs.k8s.io/yaml and go.yaml.in/yaml/v3 have strict modes, too, but neither gives both the lines and the fields of all
// mistakes, nor the field that was meant.
package strictyaml

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/nearest"
	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases of aliases can come to.
const maxNodes = 100_000

// Error is one mistake in a file.
type Error struct {
	// Line is counted from 1; 0 if the mistake is that something is missing.
	Line int
	// Path leads to the field, as in nodes[1].role; empty for the whole document.
	Path string
	// Text says what is wrong and what to do.
	Text string
}

func (e *Error) Error() string {
	text := e.Text
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Document is a decoded file.
type Document struct {
	root  *yaml.Node
	lines map[string]int
}

// Parse reads a file of one YAML document, which is a mapping.
func Parse(data []byte) (*Document, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("the YAML document is empty")
	case err != nil:
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one YAML document: want one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == nullTag {
		return nil, errors.New("the YAML document is empty")
	}
	if root.Kind != yaml.MappingNode {
		return nil, &Error{Line: root.Line, Text: fmt.Sprintf("the YAML document is %s, want fields with values", describe(root))}
	}
	return &Document{root: root, lines: map[string]int{}}, nil
}

// String returns the value of a field of the document, or "" if it has none or one that is no text. A field that is merged (<<)
// does not count.
func (d *Document) String(field string) string {
	for i := 0; i+1 < len(d.root.Content); i += 2 {
		if v := resolve(d.root.Content[i+1]); resolve(d.root.Content[i]).Value == field && v.Kind == yaml.ScalarNode {
			if v.ShortTag() == nullTag {
				return ""
			}
			d.lines[field] = v.Line
			return v.Value
		}
	}
	return ""
}

// Decode sets the fields of a struct, named by their json tags. The error joins one *Error for each mistake.
func (d *Document) Decode(into any) error {
	w := &walker{lines: d.lines}
	w.set(d.root, "", reflect.ValueOf(into).Elem())
	return errors.Join(w.errs...)
}

// Line returns the line of a field that the file has, or of the nearest one around it, or 0.
func (d *Document) Line(path string) int {
	for path != "" {
		if line := d.lines[path]; line > 0 {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

type walker struct {
	lines map[string]int
	errs  []error
	nodes int
}

func (w *walker) fail(n *yaml.Node, path, format string, args ...any) {
	w.errs = append(w.errs, &Error{Line: n.Line, Path: path, Text: fmt.Sprintf(format, args...)})
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

const nullTag, mergeTag = "!!null", "!!merge"

// resolve returns the node that an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// count reports whether there may be another value.
func (w *walker) count(n *yaml.Node, path string) bool {
	if w.nodes++; w.nodes == maxNodes+1 {
		w.fail(n, path, "the file comes to more than %d values", maxNodes)
	}
	return w.nodes <= maxNodes
}

// set decodes a node into a value.
func (w *walker) set(n *yaml.Node, path string, v reflect.Value) {
	if !w.count(n, path) {
		return
	}
	n = resolve(n)
	if path != "" && w.lines[path] == 0 {
		w.lines[path] = n.Line
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == nullTag {
		return // as if it were not there
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		w.set(n, path, v.Elem())
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(textUnmarshaler) {
		if !w.is(n, path, yaml.ScalarNode, "a text") {
			return
		}
		err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value))
		switch {
		case err == nil:
		case v.Type() == reflect.TypeFor[netip.Prefix]():
			w.fail(n, path, "%q: want a subnet, such as 10.32.0.0/16", n.Value)
		default:
			w.fail(n, path, "%q: %v", n.Value, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		w.fields(n, path, v)
	case reflect.Map:
		w.entries(n, path, v)
	case reflect.Slice:
		if n.Kind == yaml.MappingNode && isNamedList(v.Type()) {
			w.named(n, path, v)
			return
		}
		if !w.is(n, path, yaml.SequenceNode, "a list") {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			w.set(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.String:
		if w.is(n, path, yaml.ScalarNode, "a text") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || err != nil {
			w.fail(n, path, "%s, want true or false", describe(n))
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 0, v.Type().Bits())
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil {
			w.fail(n, path, "%s, want a whole number", describe(n))
			return
		}
		v.SetInt(i)
	default:
		panic("strictyaml: " + path + " has the type " + v.Type().String())
	}
}

// isNamedList reports whether the elements of a list are objects with a name and a value, and nothing else.
func isNamedList(t reflect.Type) bool {
	e := t.Elem()
	return e.Kind() == reflect.Struct && e.NumField() == 2 && e.Field(0).Tag.Get("json") == "name" && e.Field(1).Tag.Get("json") == "value"
}

// named decodes a mapping into a list of objects with name and value, in the order of the file.
func (w *walker) named(n *yaml.Node, path string, v reflect.Value) {
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.Content)/2))
	w.pairs(n, path, func(key, value *yaml.Node) {
		w.lines[Join(path, key.Value)] = key.Line
		item := reflect.New(v.Type().Elem()).Elem()
		item.Field(0).SetString(key.Value)
		w.set(value, Join(path, key.Value), item.Field(1))
		v.Set(reflect.Append(v, item))
	})
}

func (w *walker) is(n *yaml.Node, path string, kind yaml.Kind, want string) bool {
	if n.Kind != kind {
		w.fail(n, path, "%s, want %s", describe(n), want)
	}
	return n.Kind == kind
}

// pairs calls f for each key of a mapping, merged ones (<<) included, unless the mapping has the key itself.
func (w *walker) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	seen := map[string]int{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		if key.ShortTag() == mergeTag {
			merged = append(merged, value)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			w.fail(n.Content[i], path, "%s is no name of a field", describe(key))
			continue
		}
		if line, ok := seen[key.Value]; ok {
			w.fail(n.Content[i], Join(path, key.Value), "stands here and in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		f(key, value)
	}
	for len(merged) > 0 {
		m := merged[0]
		merged = merged[1:]
		if !w.count(n, path) {
			return
		}
		switch m.Kind {
		case yaml.AliasNode:
			merged = slices.Insert(merged, 0, m.Alias)
		case yaml.SequenceNode:
			merged = slices.Insert(merged, 0, m.Content...)
		case yaml.MappingNode:
			var further []*yaml.Node
			for i := 0; i+1 < len(m.Content); i += 2 {
				key, value := resolve(m.Content[i]), m.Content[i+1]
				if key.ShortTag() == mergeTag {
					further = append(further, value)
				} else if _, ok := seen[key.Value]; !ok && key.Kind == yaml.ScalarNode {
					seen[key.Value] = key.Line
					f(key, value)
				}
			}
			merged = slices.Insert(merged, 0, further...)
		default:
			w.fail(m, path, "%s cannot be merged, want fields with values", describe(m))
		}
	}
}

func (w *walker) fields(n *yaml.Node, path string, v reflect.Value) {
	if !w.is(n, path, yaml.MappingNode, "fields with values") {
		return
	}
	fields := map[string]reflect.Value{}
	collect(v, fields)
	w.pairs(n, path, func(key, value *yaml.Node) {
		field, ok := fields[key.Value]
		if !ok {
			names := slices.Sorted(maps.Keys(fields))
			hint := "there are " + strings.Join(names, ", ")
			if like := nearest.Of(key.Value, names); like != "" {
				hint = "did you mean " + like + "?"
			}
			w.fail(key, Join(path, key.Value), "no such field: %s", hint)
			return
		}
		w.lines[Join(path, key.Value)] = key.Line
		w.set(value, Join(path, key.Value), field)
	})
}

// collect finds the fields of a struct, those of embedded ones among them.
func collect(v reflect.Value, fields map[string]reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			collect(v.Field(i), fields)
			continue
		}
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = v.Field(i)
		}
	}
}

func (w *walker) entries(n *yaml.Node, path string, v reflect.Value) {
	if !w.is(n, path, yaml.MappingNode, "fields with values") {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	w.pairs(n, path, func(key, value *yaml.Node) {
		w.lines[Join(path, key.Value)] = key.Line
		entry := reflect.New(v.Type().Elem()).Elem()
		if text := resolve(value); text.ShortTag() == nullTag && entry.Kind() != reflect.String {
			w.fail(key, Join(path, key.Value), "has no value")
			return
		}
		w.set(value, Join(path, key.Value), entry)
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), entry)
	})
}

// plain are names that a path has as they are.
var plain = regexp.MustCompile(`^[\pL\pN_/-]+$`)

// Join appends a field to a path, in brackets if its name has characters that paths have.
func Join(path, field string) string {
	if !plain.MatchString(field) {
		return fmt.Sprintf("%s[%q]", path, field)
	}
	return strings.TrimPrefix(path+"."+field, ".")
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "fields with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return describe(n.Alias)
	}
	return strconv.Quote(n.Value)
}
