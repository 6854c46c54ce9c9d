package v1alpha1

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "write schema.json and docs/config-reference.md")

// Editors check a file against schema.json, which is made from the types and their comments.
func TestSchema(t *testing.T) {
	r := &jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true, // there are none: defaults fill what is missing
		LookupComment:              comments(t),
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t.Kind() == reflect.Struct && t.PkgPath() != reflect.TypeFor[Cluster]().PkgPath() || t == reflect.TypeFor[Duration]() {
				return &jsonschema.Schema{Type: "string"} // netip.Prefix and Duration are written as text
			}
			if t == reflect.TypeFor[ExtraArgs]() {
				text := &jsonschema.Schema{Type: "string"}
				pair := jsonschema.NewProperties()
				pair.Set("name", text)
				pair.Set("value", text)
				scalar := &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
				return &jsonschema.Schema{OneOf: []*jsonschema.Schema{
					{Type: "object", AdditionalProperties: scalar},
					{Type: "array", Items: &jsonschema.Schema{Type: "object", Properties: pair, AdditionalProperties: jsonschema.FalseSchema}},
				}}
			}
			return nil
		},
	}
	schema := r.Reflect(&Cluster{})
	schema.ID = ""
	definition := schema.Definitions["Cluster"]
	definition.Required = []string{"apiVersion", "kind"}
	for field, value := range map[string]any{"apiVersion": APIVersion, "kind": Kind} {
		property, _ := definition.Properties.Get(field)
		property.Const = value
	}
	got, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", append(got, '\n'))
}

// docs/config-reference.md is made from the same.
func TestReference(t *testing.T) {
	var out bytes.Buffer
	out.WriteString("# Reference of the configuration file\n\nMade from api/v1alpha1/types*.go. [How it is used](config.md).\n")
	comment := comments(t)
	var write func(reflect.Type)
	seen := map[reflect.Type]bool{}
	write = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n| field | type | |\n|---|---|---|\n", typ.Name(), strings.Replace(comment(typ, ""), typ.Name()+" ", "", 1))
		var further []reflect.Type
		for i := range typ.NumField() {
			field := typ.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			text := comment(typ, field.Name)
			if text == "" {
				switch name {
				case "apiVersion":
					text = "`" + APIVersion + "`"
				case "kind":
					text = "`" + Kind + "`"
				}
			}
			described, structs := describe(field.Type)
			further = append(further, structs...)
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", name, described, strings.ReplaceAll(text, "|", "\\|"))
		}
		for _, f := range further {
			write(f)
		}
	}
	write(reflect.TypeFor[Cluster]())
	golden(t, "../../docs/config-reference.md", out.Bytes())
}

// describe returns what a field is written as, and the types of its own that it leads to.
func describe(t reflect.Type) (string, []reflect.Type) {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "duration", nil
	case t == reflect.TypeFor[ExtraArgs]():
		return "map to text, or list of name and value", nil
	case t.Kind() == reflect.Pointer:
		return describe(t.Elem())
	case t.Kind() == reflect.Slice:
		text, structs := describe(t.Elem())
		return "list of " + text, structs
	case t.Kind() == reflect.Map:
		text, structs := describe(t.Elem())
		return "map to " + text, structs
	case t.Kind() == reflect.Struct && t.PkgPath() == reflect.TypeFor[Cluster]().PkgPath():
		return fmt.Sprintf("[%s](#%s)", t.Name(), strings.ToLower(t.Name())), []reflect.Type{t}
	case t.Kind() == reflect.Struct:
		return "subnet", nil
	case t.Kind() == reflect.Int:
		return "number", nil
	case t.Kind() == reflect.Bool:
		return "true or false", nil
	}
	return "text", nil
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say: run `go test ./api/v1alpha1 -update`\n%s", path, got)
	}
}

// comments returns the comments of types*.go by type and field.
func comments(t *testing.T) func(reflect.Type, string) string {
	t.Helper()
	files, err := filepath.Glob("types*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no types: %v", err)
	}
	var source []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	found := map[string]string{}
	typ := ""
	var comment []string
	line := regexp.MustCompile(`^\t?// ?(.*)$|^type (\w+) |^\t(\w+) +\S`)
	for text := range bytes.Lines(source) {
		m := line.FindSubmatch(bytes.TrimRight(text, "\n"))
		switch {
		case m == nil:
			comment = nil
		case m[2] != nil:
			typ = string(m[2])
			found[typ], comment = join(comment), nil
		case m[3] != nil:
			found[typ+"."+string(m[3])], comment = join(comment), nil
		default:
			comment = append(comment, string(m[1]))
		}
	}
	return func(t reflect.Type, field string) string {
		if field == "" {
			return found[t.Name()]
		}
		return found[t.Name()+"."+field]
	}
}

func join(lines []string) string {
	var out bytes.Buffer
	for i, l := range lines {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(l)
	}
	return out.String()
}
