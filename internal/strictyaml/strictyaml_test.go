package strictyaml

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

type base struct {
	Source string `json:"source"`
}

type item struct {
	base
	Role  string            `json:"role"`
	Count *int              `json:"count"`
	Text  map[string]string `json:"text"`
	Gates map[string]bool   `json:"gates"`
}

type arg struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type file struct {
	Kind   string       `json:"kind"`
	Size   int          `json:"size"`
	On     bool         `json:"on"`
	Subnet netip.Prefix `json:"subnet"`
	Names  []string     `json:"names"`
	Items  []item       `json:"items"`
	One    item         `json:"one"`
	Two    item         `json:"two"`
	Args   []arg        `json:"args"`
	Hidden int          `json:"-"`
}

func decode(text string) (file, error) {
	f := file{Size: 7, On: true, Names: []string{"default"}, One: item{Role: "one"}}
	doc, err := Parse([]byte(text))
	if err == nil {
		err = doc.Decode(&f)
	}
	return f, err
}

func TestDecode(t *testing.T) {
	four := 4
	for _, test := range []struct {
		name, text string
		want       func(*file)
	}{
		{"nothing said", "kind: A", func(f *file) { f.Kind = "A" }},
		{"nulls are as if they were not there", "{kind: A, size: null, on: ~, subnet: , names: null, items: ~, one: {role: null, count: ~, text: ~}}", func(f *file) { f.Kind = "A" }},
		{"texts stay as written", "{kind: 1.10, one: {role: yes, text: {a: 0x10, b: null, c: 'null', d: 2001-01-01}}}", func(f *file) {
			f.Kind, f.One.Role = "1.10", "yes"
			f.One.Text = map[string]string{"a": "0x10", "b": "", "c": "null", "d": "2001-01-01"}
		}},
		{"numbers", "{size: 0x10, one: {count: 4}}", func(f *file) { f.Size, f.One.Count = 16, &four }},
		{"an empty list", "{names: [], subnet: 10.0.0.0/8}", func(f *file) { f.Names, f.Subnet = []string{}, netip.MustParsePrefix("10.0.0.0/8") }},
		{"embedded", "items: [{source: /a, role: b}, ~]", func(f *file) {
			f.Items = []item{{base: base{"/a"}, Role: "b"}, {}}
		}},
		{"a map for a list of names and values", "args: {v: 4, z: 'x', a: true}", func(f *file) { f.Args = []arg{{"v", "4"}, {"z", "x"}, {"a", "true"}} }},
		{"the list itself", "args: [{name: v, value: 4}, {name: v, value: 5}]", func(f *file) { f.Args = []arg{{"v", "4"}, {"v", "5"}} }},
		{"aliases", "{kind: &k A, one: {role: *k}, names: &n [x], items: [{role: y}]}", func(f *file) {
			f.Kind, f.One.Role, f.Names, f.Items = "A", "A", []string{"x"}, []item{{Role: "y"}}
		}},
		{"alias of a key", "{kind: &k size, *k : 3}", func(f *file) { f.Kind, f.Size = "size", 3 }},
		{"merge", "{one: &o {role: a, source: s}, two: {<<: *o, role: b}}", func(f *file) {
			f.One = item{Role: "a", base: base{"s"}}
			f.Two = item{Role: "b", base: base{"s"}}
		}},
		{"the first of several merges counts", "{one: &o {role: a}, two: {<<: [{source: x}, *o, {role: b, source: y}]}}", func(f *file) {
			f.One, f.Two = item{Role: "a"}, item{Role: "a", base: base{"x"}}
		}},
		{"long tags", "{size: !<tag:yaml.org,2002:int> 3, on: !!bool false, one: !<tag:yaml.org,2002:null> ''}", func(f *file) { f.Size, f.On = 3, false }},
		{"unicode", "one: {text: {ключ: значение}}", func(f *file) { f.One.Text = map[string]string{"ключ": "значение"} }},
	} {
		want, _ := decode("{}")
		test.want(&want)
		if got, err := decode(test.text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "# nothing\n", "the YAML document is empty"},
		{"nothing in the document", "---\n...\n", "the YAML document is empty"},
		{"null", "~", "the YAML document is empty"},
		{"two documents", "a: b\n---\n", "more than one YAML document"},
		{"unknown alias", "a: *b", "not YAML: "},
		{"control characters", "a: \x01", "not YAML: "},
		{"text", "abc", `line 1: the YAML document is "abc", want fields`},
		{"near", "sise: 1", "line 1: sise: no such field: did you mean size?"},
		{"far", "frobnicate: 1", "line 1: frobnicate: no such field: there are args, items, kind,"},
		{"field of the program", "hidden: 1", "hidden: no such field"},
		{"types", "kind: [a]\nsize: 1.0\non: yes\nnames: a\nitems: {a: b}\none: [c]\n", `line 1: kind: a list, want a text
line 2: size: "1.0", want a whole number
line 3: on: "yes", want true or false
line 4: names: "a", want a list
line 5: items: fields with values, want a list
line 6: one: a list, want fields with values`},
		{"no map of texts", "args: {v: [1], v: 2}", "line 1: args.v: a list, want a text\nline 1: args.v: stands here and in line 1"},
		{"huge", "size: 99999999999999999999", "want a whole number"},
		{"subnet", "subnet: 10.0.0.0", `subnet: "10.0.0.0": want a subnet, such as 10.32.0.0/16`},
		{"twice below", "items:\n- role: a\n  text: {x: 1,\n    x: 2}", "line 4: items[0].text.x: stands here and in line 3"},
		{"map without a value", "one:\n  gates: {A: }", "line 2: one.gates.A: has no value"},
		{"a list as a key", "one: {text: {[a]: b}}", "one.text: a list is no name of a field"},
		{"a mapping as a field", "? {a: b}\n: c", "line 1: fields with values is no name of a field"},
		{"keys that paths cannot have", "one: {gates: {a.b: 1, \"c\\nd\": 1}}", "line 1: one.gates[\"a.b\"]: \"1\", want true or false\nline 1: one.gates[\"c\\nd\"]: "},
		{"merge of a text", "one: {<<: a}", `one: "a" cannot be merged`},
		{"merge with an unknown field", "one: {<<: {roel: a}}", "one.roel: no such field: did you mean role?"},
		// What comes after a file that is too much must not be passed over.
		{"merge of itself", "one: &o {<<: *o}\nsize: many", "one: the file comes to more than 100000 values"},
		{"list in itself", "items: &i [*i]", "items[0]: a list, want fields with values"},
	} {
		if _, err := decode(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", test.name, err, test.want)
		}
	}
}

func TestLine(t *testing.T) {
	doc, err := Parse([]byte("kind: &a A\none:\n  text:\n    example.org/x: y\nitems:\n- role: a\n- {}\ntwo: {role: *a}"))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := doc.Decode(&f); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"kind": 1, "one.text": 3, Join("one.text", "example.org/x"): 4, "items": 5, "items[0].role": 6, "items[1]": 7,
		// Of what is missing, the line of what it is missing in.
		"items[1].count": 7, "size": 0, "two.role": 8,
	} {
		if got := doc.Line(path); got != want {
			t.Errorf("%s: got line %d, want %d", path, got, want)
		}
	}
}

func TestString(t *testing.T) {
	doc, err := Parse([]byte("{a: x, b: ~, c: [x], d: &d 1, e: *d}"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, field := range []string{"a", "b", "c", "d", "e", "f"} {
		got = append(got, doc.String(field))
	}
	if fmt.Sprintf("%q", got) != `["x" "" "" "1" "1" ""]` {
		t.Errorf("got %q", got)
	}
}
