package v1alpha1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// patchKinds are the objects of kubeadm's configuration files.
var patchKinds = []string{"InitConfiguration", "ClusterConfiguration", "JoinConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"}

func (v *validation) patches(prefix string, merge []string, json6902 []JSON6902Patch) {
	for i, text := range merge {
		path := fmt.Sprintf("%skubeadmConfigPatches[%d]", prefix, i)
		p, err := parseMergePatch(text)
		if err != nil {
			v.fail(path, "%v", err)
			continue
		}
		v.check(path+": kind", p.kind, OneOf(p.kind, patchKinds...))
	}
	for i, p := range json6902 {
		path := fmt.Sprintf("%skubeadmConfigPatchesJSON6902[%d]", prefix, i)
		v.check(path+".kind", p.Kind, OneOf(p.Kind, patchKinds...))
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
		kind, _ := PatchKind(text) // what is no patch has been said
		check(fmt.Sprintf("%s.kubeadmConfigPatches[%d]", path, i), kind)
	}
	for i, p := range n.KubeadmConfigPatchesJSON6902 {
		check(fmt.Sprintf("%s.kubeadmConfigPatchesJSON6902[%d]", path, i), p.Kind)
	}
}

// PatchKind returns the kind of objects that a merge patch is for.
func PatchKind(patch string) (string, error) {
	var head struct{ Kind string }
	if err := yaml.Unmarshal([]byte(patch), &head); err != nil {
		return "", fmt.Errorf("not YAML: %w", err)
	}
	return head.Kind, nil
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
	return patch, nil
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
	for i, text := range merge {
		p, err := parseMergePatch(text)
		if err != nil {
			return nil, fmt.Errorf("patch %d: %w", i, err)
		}
		older := is.APIVersion == kubeadmVersion && slices.Contains(olderKubeadm, p.apiVersion)
		if p.kind != is.Kind || p.apiVersion != "" && p.apiVersion != is.APIVersion && !older {
			continue
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
	for _, p := range json6902 {
		if p.Kind != is.Kind || p.Group+p.Version != "" && p.apiVersion() != is.APIVersion {
			continue
		}
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
