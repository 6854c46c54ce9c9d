package v1alpha1

import (
	"encoding/json"
	"fmt"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"sigs.k8s.io/yaml"
)

// patchKinds are the objects of kubeadm's configuration files.
var patchKinds = []string{"InitConfiguration", "ClusterConfiguration", "JoinConfiguration", "KubeletConfiguration", "KubeProxyConfiguration"}

func (v *validation) patches(prefix string, merge []string, json6902 []JSON6902Patch) {
	for i, text := range merge {
		path := fmt.Sprintf("%skubeadmConfigPatches[%d]", prefix, i)
		var head struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			v.fail(path, "not YAML: %v", err)
			continue
		}
		v.check(path+": kind", OneOf(head.Kind, patchKinds...))
	}
	for i, p := range json6902 {
		path := fmt.Sprintf("%skubeadmConfigPatchesJSON6902[%d]", prefix, i)
		v.check(path+".kind", OneOf(p.Kind, patchKinds...))
		if _, err := p.decode(); err != nil {
			v.fail(path+".patch", "%v", err)
		}
	}
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
