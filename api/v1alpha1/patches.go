package v1alpha1

import (
	"encoding/json"
	"fmt"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// patchKinds are the objects of kubeadm's configuration files.
var patchKinds = []string{"InitConfiguration", "ClusterConfiguration", "JoinConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"}

func (v *validation) patches(prefix string, merge []string, json6902 []JSON6902Patch) {
	for i, text := range merge {
		path := fmt.Sprintf("%skubeadmConfigPatches[%d]", prefix, i)
		kind, err := PatchKind(text)
		if err != nil {
			v.fail(path, "%v", err)
			continue
		}
		v.check(path+": kind", kind, OneOf(kind, patchKinds...))
	}
	for i, p := range json6902 {
		path := fmt.Sprintf("%skubeadmConfigPatchesJSON6902[%d]", prefix, i)
		v.check(path+".kind", p.Kind, OneOf(p.Kind, patchKinds...))
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
// names stays as it is.
func Patch(object []byte, merge []string, json6902 []JSON6902Patch) ([]byte, error) {
	type head struct{ APIVersion, Kind string }
	var is head
	if err := json.Unmarshal(object, &is); err != nil {
		return nil, err
	}
	for i, text := range merge {
		var want head
		if err := yaml.Unmarshal([]byte(text), &want); err != nil {
			return nil, fmt.Errorf("patch %d: %w", i, err)
		}
		if want.Kind != is.Kind || want.APIVersion != "" && want.APIVersion != is.APIVersion {
			continue
		}
		patch, err := yaml.YAMLToJSON([]byte(text))
		if err == nil {
			object, err = jsonpatch.MergePatch(object, patch)
		}
		if err != nil {
			return nil, fmt.Errorf("applying a patch of %s: %w", is.Kind, err)
		}
	}
	for _, p := range json6902 {
		if p.Kind != is.Kind || p.Group+p.Version != "" && p.Group+"/"+p.Version != is.APIVersion {
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
