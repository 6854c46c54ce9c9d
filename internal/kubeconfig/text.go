package kubeconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// text is a kubeconfig file as it is written. Values would not do: numbers are read in one way and
// written in another, and the user's comments and further documents would be lost.
type text struct {
	// documents are all of the file's. The first is the kubeconfig, a mapping; kubectl does not
	// look at others.
	documents []*yamlv3.Node
}

// parseText reads a file; an empty one is fine.
func parseText(data []byte) (*text, error) {
	if err := check(data); err != nil {
		return nil, err
	}
	t := &text{}
	for decoder := yamlv3.NewDecoder(bytes.NewReader(data)); ; {
		var d yamlv3.Node
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		spellNulls(&d, false)
		t.documents = append(t.documents, &d)
	}
	mapping := &yamlv3.Node{Kind: yamlv3.MappingNode}
	if len(t.documents) == 0 {
		t.documents = []*yamlv3.Node{{Kind: yamlv3.DocumentNode, Content: []*yamlv3.Node{mapping}}}
	} else if t.root().Kind != yamlv3.MappingNode {
		// check takes nothing else but null.
		t.documents[0].Content = []*yamlv3.Node{mapping}
	}
	for i := 0; i < len(t.root().Content); i += 2 {
		if t.root().Content[i].Tag == "!!merge" {
			return nil, errors.New("it is put together with the merge key <<, which cannot be kept: " +
				"write the file out, as `kubectl config view --raw` does")
		}
	}
	for _, list := range lists {
		if v := t.value(list); v != nil && v.Kind != yamlv3.SequenceNode && v.Tag != "!!null" {
			return nil, fmt.Errorf("%s: it is an alias, which cannot be kept: write the list out", list)
		}
	}
	return t, nil
}

// lists are the parts of a kubeconfig that hold named entries.
var lists = []string{"clusters", "contexts", "users"}

// check fails on what merge and remove do not look for: duplicate keys, for instance.
func check(data []byte) error {
	var values map[string]any
	if err := yaml.UnmarshalStrict(data, &values); err != nil {
		return err
	}
	for _, list := range lists {
		entries, ok := values[list].([]any)
		if !ok && values[list] != nil {
			return fmt.Errorf("%s: want a list", list)
		}
		for i, e := range entries {
			if m, ok := e.(map[string]any); !ok || m["name"] == nil {
				return fmt.Errorf("%s[%d]: want a name", list, i)
			}
		}
	}
	return nil
}

// spellNulls writes the nulls between braces out. The encoder would write them as nothing, {a: },
// which reads as an empty text.
func spellNulls(n *yamlv3.Node, flow bool) {
	flow = flow || n.Style&yamlv3.FlowStyle != 0
	if flow && n.Kind == yamlv3.ScalarNode && n.Tag == "!!null" && n.Value == "" {
		n.Value = "null"
	}
	for _, child := range n.Content {
		spellNulls(child, flow)
	}
}

func (t *text) root() *yamlv3.Node { return t.documents[0].Content[0] }

// value returns the value of a key, nil if the key is not there.
func (t *text) value(key string) *yamlv3.Node {
	content := t.root().Content
	for i := 0; i < len(content); i += 2 {
		if content[i].Value == key {
			return content[i+1]
		}
	}
	return nil
}

// set gives a key a value, at the place where it is if it is there.
func (t *text) set(key string, value *yamlv3.Node) {
	content := t.root().Content
	for i := 0; i < len(content); i += 2 {
		if content[i].Value == key {
			content[i+1] = value
			return
		}
	}
	t.root().Content = append(content, scalar(key), value)
}

func scalar(value string) *yamlv3.Node {
	n := &yamlv3.Node{}
	n.SetString(value)
	return n
}

// setText is set for a text, and leaves one that is the same already as it is written.
func (t *text) setText(key, value string) {
	if old := t.value(key); old == nil || old.Kind != yamlv3.ScalarNode || old.Value != value {
		t.set(key, scalar(value))
	}
}

// isNamed reports whether an entry of a list has a name.
func isNamed(entry *yamlv3.Node, name string) bool {
	if entry.Kind == yamlv3.AliasNode {
		entry = entry.Alias
	}
	for i := 0; i+1 < len(entry.Content); i += 2 {
		if entry.Content[i].Value == "name" {
			return entry.Content[i+1].Value == name
		}
	}
	return false
}

// plain makes the encoder write a list or mapping that is empty now, and so written as [] or {}, as
// a block later.
func plain(n *yamlv3.Node) {
	if len(n.Content) == 0 {
		n.Style = 0
	}
}

// merge puts the entries of a cluster into the file, in place of those of the same name, and makes
// the cluster's current context the current one.
func (t *text) merge(cluster Config) error {
	data, err := cluster.Marshal()
	if err != nil {
		return err
	}
	added, err := parseText(data)
	if err != nil {
		return err
	}
	plain(t.root())
	for _, list := range lists {
		sequence := t.value(list)
		if sequence == nil || sequence.Kind != yamlv3.SequenceNode {
			sequence = &yamlv3.Node{Kind: yamlv3.SequenceNode}
			t.set(list, sequence)
		}
		plain(sequence)
		drop(sequence, cluster.Name)
		sequence.Content = append(sequence.Content, added.value(list).Content...)
	}
	t.setText("apiVersion", "v1")
	t.setText("kind", "Config")
	t.setText("current-context", cluster.Name)
	return nil
}

// remove takes the cluster, user and context called name out and reports whether there was any.
func (t *text) remove(name string) (found bool) {
	for _, list := range lists {
		if sequence := t.value(list); sequence != nil && drop(sequence, name) {
			found = true
		}
	}
	if current := t.value("current-context"); current != nil && current.Value == name {
		t.setText("current-context", "")
		found = true
	}
	return found
}

// drop takes the entries of a name out of a list and reports whether there were any.
func drop(sequence *yamlv3.Node, name string) (found bool) {
	var kept []*yamlv3.Node
	for _, e := range sequence.Content {
		if isNamed(e, name) {
			found = true
		} else {
			kept = append(kept, e)
		}
	}
	sequence.Content = kept
	return found
}

// encode writes the file, in the layout that kubectl uses.
func (t *text) encode() ([]byte, error) {
	var out bytes.Buffer
	encoder := yamlv3.NewEncoder(&out)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	for _, d := range t.documents {
		if err := encoder.Encode(d); err != nil {
			return nil, err
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	// An anchor, say, may have gone with an entry.
	if _, err := parseText(out.Bytes()); err != nil {
		return nil, fmt.Errorf("it cannot be written as it would have to be: %w", err)
	}
	return out.Bytes(), nil
}
