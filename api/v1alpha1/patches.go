package v1alpha1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/internal/strictyaml"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// patchKinds are the objects of kubeadm's configuration files, and patchGroups their API groups.
var (
	patchKinds  = []string{"InitConfiguration", "ClusterConfiguration", "JoinConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"}
	patchGroups = map[string]string{"KubeletConfiguration": "kubelet.config.k8s.io", "KubeProxyConfiguration": "kubeproxy.config.k8s.io"}
)

// checkGroup reports whether objects of a kind have an API group, which may be unsaid.
func checkGroup(kind, group string) error {
	if want := cmp.Or(patchGroups[kind], "kubeadm.k8s.io"); group != "" && group != want && slices.Contains(patchKinds, kind) {
		return fmt.Errorf("want the group %s, which %s belongs to", want, kind)
	}
	return nil
}

func (v *validation) patches(prefix string, merge []string, json6902 []JSON6902Patch) {
	for i, text := range merge {
		path := fmt.Sprintf("%skubeadmConfigPatches[%d]", prefix, i)
		if _, err := parseMergePatch(text); err != nil {
			v.fail(path, "%v", err)
			continue
		}
		head, err := patchHead(text)
		if err != nil {
			v.fail(path, "%v", err)
			continue
		}
		if err := OneOf(head.kind, patchKinds...); err != nil {
			v.fail(path, "kind: %q: %v", head.kind, err)
		}
		if err := checkGroup(head.kind, head.group); err != nil {
			v.fail(path, "apiVersion: %q: %v", head.group+"/"+head.version, err)
		}
	}
	for i, p := range json6902 {
		path := fmt.Sprintf("%skubeadmConfigPatchesJSON6902[%d]", prefix, i)
		v.check(path+".kind", p.Kind, OneOf(p.Kind, patchKinds...))
		v.check(path+".group", p.Group, checkGroup(p.Kind, p.Group))
		ops, err := p.decode()
		if err != nil {
			v.fail(path+".patch", "%v", err)
		}
		if p.Version == "" || p.apiVersion() == kubeadmVersion {
			for _, op := range ops {
				if at, err := op.Path(); err == nil && argByName.MatchString(at) {
					v.fail(path+".patch", "%s: in %s this is a list of objects with name and value: add one with a path that ends in /-, or write a merge patch", at, kubeadmVersion)
				}
			}
		}
		replaces := func(other JSON6902Patch) bool {
			return other.Kind == p.Kind && (other.Version == "" || other.apiVersion() == kubeadmVersion)
		}
		if slices.Contains(olderKubeadm, p.apiVersion()) && !slices.ContainsFunc(json6902, replaces) {
			v.fail(path+".version", "%q: kubeadm's configuration is of %s here", p.Version, kubeadmVersion)
		}
	}
}

// kubeadmVersion is the API version of the configuration that package kubeadm writes.
const kubeadmVersion = "kubeadm.k8s.io/v1beta4"

// olderKubeadm are the API versions whose merge patches are applied as well: they have extraArgs and
// kubeletExtraArgs as maps.
var olderKubeadm = []string{"kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta2", "kubeadm.k8s.io/v1beta1"}

// argByName matches JSON pointers to a flag as older versions have it.
var argByName = regexp.MustCompile(`/(extraArgs|kubeletExtraArgs)/[^/0-9-]`)

// mergePatch is a merge patch with flags as v1beta4 has them.
type mergePatch struct {
	apiVersion, kind string
	fields           map[string]any
}

func parseMergePatch(text string) (mergePatch, error) {
	if len(Documents(text)) > 1 {
		return mergePatch{}, errors.New("more than one YAML document: write each as a patch of its own")
	}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return mergePatch{}, fmt.Errorf("not YAML: %w", err)
	}
	var p mergePatch
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&p.fields); err != nil {
		return mergePatch{}, errors.New("no YAML object")
	}
	p.apiVersion, _ = p.fields["apiVersion"].(string)
	p.kind, _ = p.fields["kind"].(string)
	// The object keeps its own version, and has no metadata: kind's patches once needed its name.
	for _, field := range []string{"apiVersion", "kind", "metadata"} {
		delete(p.fields, field)
	}
	return p, listArgs(p.fields)
}

var (
	separator = regexp.MustCompile(`(?m)^---.*$`)
	content   = regexp.MustCompile(`(?m)^\s*[^#\s]`)
)

// Documents returns the YAML documents in a text that have more in them than comments.
func Documents(text string) []string {
	return slices.DeleteFunc(separator.Split(text, -1), func(one string) bool { return !content.MatchString(one) })
}

// listArgs turns the flags in a patch into lists, sorted by name, wherever they are maps.
func listArgs(fields map[string]any) error {
	for key, value := range fields {
		table, isMap := value.(map[string]any)
		if key != "extraArgs" && key != "kubeletExtraArgs" {
			if err := listArgs(table); err != nil {
				return err
			}
			continue
		}
		list, isList := value.([]any)
		if isMap {
			for _, name := range slices.Sorted(maps.Keys(table)) {
				list = append(list, map[string]any{"name": name, "value": table[name]})
			}
		} else if !isList && value != nil {
			return fmt.Errorf("%s: want a list of objects with name and value", key)
		}
		for _, item := range list {
			arg, _ := item.(map[string]any)
			if name, _ := arg["name"].(string); name == "" {
				return fmt.Errorf("%s: want each to be an object with name and value", key)
			}
			switch value := arg["value"].(type) {
			case nil, string:
			case bool, json.Number:
				arg["value"] = fmt.Sprint(value)
			default:
				return fmt.Errorf("%s: %s: want a text as its value", key, arg["name"])
			}
		}
		if value != nil {
			fields[key] = list
		}
	}
	return nil
}

// mergeLists completes the lists of a patch by what the object has in them, since a merge patch
// replaces a whole list: flags of other names, and all certSANs.
func mergeLists(object, patch map[string]any) {
	for key, value := range patch {
		if table, ok := value.(map[string]any); ok {
			inner, _ := object[key].(map[string]any)
			mergeLists(inner, table)
			continue
		}
		list, ok := value.([]any)
		old, _ := object[key].([]any)
		if !ok {
			continue
		}
		switch key {
		case "extraArgs", "kubeletExtraArgs":
			named := map[string]bool{}
			for _, item := range list {
				named[item.(map[string]any)["name"].(string)] = true // as listArgs has checked
			}
			var all []any
			for _, item := range old {
				arg, _ := item.(map[string]any)
				if name, _ := arg["name"].(string); !named[name] {
					all = append(all, item)
				}
			}
			for _, item := range list {
				if item.(map[string]any)["value"] != nil { // null takes the flag away
					all = append(all, item)
				}
			}
			patch[key] = all
		case "certSANs":
			all := slices.Clone(old)
			for _, item := range list {
				if !slices.ContainsFunc(all, func(have any) bool { return reflect.DeepEqual(have, item) }) {
					all = append(all, item)
				}
			}
			patch[key] = all
		}
	}
}

// workerPatches refuses what would be lost without a word.
func (v *validation) workerPatches(path string, n Node) {
	check := func(path, kind string) {
		if slices.Contains(patchKinds, kind) && kind != "JoinConfiguration" && kind != "KubeletConfiguration" {
			v.fail(path, "a worker has no %s: patch it for the cluster or its control plane", kind)
		}
	}
	for i, text := range n.KubeadmConfigPatches {
		head, _ := patchHead(text) // what is no patch has been said
		check(fmt.Sprintf("%s.kubeadmConfigPatches[%d]", path, i), head.kind)
	}
	for i, p := range n.KubeadmConfigPatchesJSON6902 {
		check(fmt.Sprintf("%s.kubeadmConfigPatchesJSON6902[%d]", path, i), p.Kind)
	}
}

// PatchKind returns the kind of objects that a merge patch is for.
func PatchKind(patch string) (string, error) {
	h, err := patchHead(patch)
	return h.kind, err
}

// head says which objects a patch is for. An empty group or version means any.
type head struct{ group, version, kind string }

func patchHead(patch string) (head, error) {
	doc, err := strictyaml.Parse([]byte(patch))
	if err != nil {
		return head{}, err
	}
	h := head{kind: doc.String("kind")}
	var ok bool
	if h.group, h.version, ok = strings.Cut(doc.String("apiVersion"), "/"); !ok {
		h.group, h.version = "", h.group
	}
	return h, nil
}

// has reports whether an object is among those that the patch is for.
func (h head) has(apiVersion, kind string) bool {
	group, version, _ := strings.Cut(apiVersion, "/")
	return h.kind == kind && (h.group == "" || h.group == group) && (h.version == "" || h.version == version)
}

// older reports whether the patch is for an earlier version of kubeadm's objects.
func (h head) older(apiVersion, kind string) bool {
	return h.kind == kind && apiVersion == kubeadmVersion && slices.Contains(olderKubeadm, h.group+"/"+h.version)
}

// MergePatches returns those of merge patches that are for an object.
func MergePatches(patches []string, apiVersion, kind string) ([]string, error) {
	var out []string
	for i, text := range patches {
		h, err := patchHead(text)
		if err != nil {
			return nil, fmt.Errorf("kubeadmConfigPatches[%d]: %w", i, err)
		}
		if h.has(apiVersion, kind) || h.older(apiVersion, kind) {
			out = append(out, text)
		}
	}
	return out, nil
}

// JSONPatches returns those of JSON patches that are for an object.
func JSONPatches(patches []JSON6902Patch, apiVersion, kind string) []JSON6902Patch {
	return slices.DeleteFunc(slices.Clone(patches), func(p JSON6902Patch) bool {
		return !head{p.Group, p.Version, p.Kind}.has(apiVersion, kind)
	})
}

func (p JSON6902Patch) apiVersion() string { return p.Group + "/" + p.Version }

func (p JSON6902Patch) decode() (jsonpatch.Patch, error) {
	text, err := yaml.YAMLToJSON([]byte(p.Patch))
	if err != nil {
		return nil, fmt.Errorf("neither JSON nor YAML: %w", err)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return nil, fmt.Errorf("not a JSON patch (RFC 6902): %w", err)
	}
	if len(patch) == 0 {
		return nil, errors.New("there are no operations: want a list of them, as in [{op: remove, path: /a/b}]")
	}
	for i, op := range patch {
		if err := checkOperation(op); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	return patch, nil
}

// needs are the fields that operations have beside op and path: https://www.rfc-editor.org/rfc/rfc6902#section-4.
var needs = map[string]string{"add": "value", "remove": "", "replace": "value", "move": "from", "copy": "from", "test": "value"}

func checkOperation(op jsonpatch.Operation) error {
	field, ok := needs[op.Kind()]
	if !ok {
		return fmt.Errorf("op: want %s", strings.Join(slices.Sorted(maps.Keys(needs)), " or "))
	}
	if path, err := op.Path(); err != nil || path != "" && !strings.HasPrefix(path, "/") {
		return errors.New("path: want one that begins with /, as in /a/b")
	}
	if _, ok := op[field]; field != "" && !ok {
		return fmt.Errorf("%s needs the field %s", op.Kind(), field)
	}
	return nil
}

// Patch changes an object as patches for its kind say, and returns it as JSON. An object of another API version than a patch
// names stays as it is, but merge patches for older versions of kubeadm's are applied.
//
// Flags (extraArgs, kubeletExtraArgs) and certSANs are merged with those of the object, as kind does: a flag replaces those of
// the same name, and one whose value is null takes them away.
func Patch(object []byte, merge []string, json6902 []JSON6902Patch) ([]byte, error) {
	var is struct{ APIVersion, Kind string }
	if err := json.Unmarshal(object, &is); err != nil {
		return nil, err
	}
	merge, err := MergePatches(merge, is.APIVersion, is.Kind)
	if err != nil {
		return nil, err
	}
	for _, text := range merge {
		p, err := parseMergePatch(text)
		if err != nil {
			return nil, fmt.Errorf("applying a patch of %s: %w", is.Kind, err)
		}
		var fields map[string]any
		if err := json.Unmarshal(object, &fields); err != nil {
			return nil, err
		}
		mergeLists(fields, p.fields)
		patch, err := json.Marshal(p.fields)
		if err == nil {
			object, err = jsonpatch.MergePatch(object, patch)
		}
		if err != nil {
			return nil, fmt.Errorf("applying a patch of %s: %w", is.Kind, err)
		}
	}
	for _, p := range JSONPatches(json6902, is.APIVersion, is.Kind) {
		patch, err := p.decode()
		if err == nil {
			object, err = patch.Apply(object)
		}
		if err != nil {
			return nil, fmt.Errorf("applying a JSON patch of %s: %w", is.Kind, err)
		}
	}
	return object, nil
}
