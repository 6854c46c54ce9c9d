package v1alpha1

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
		if _, err := p.decode(); err != nil {
			v.fail(path+".patch", "%v", err)
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

// MergePatches returns those of merge patches that are for an object.
func MergePatches(patches []string, apiVersion, kind string) ([]string, error) {
	var out []string
	for i, text := range patches {
		h, err := patchHead(text)
		if err != nil {
			return nil, fmt.Errorf("kubeadmConfigPatches[%d]: %w", i, err)
		}
		if h.has(apiVersion, kind) {
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
// names stays as it is.
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
		patch, err := yaml.YAMLToJSON([]byte(text))
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
