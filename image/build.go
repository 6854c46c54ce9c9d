package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dind-cluster/dind-cluster/image/jsonfile"
	"github.com/dind-cluster/dind-cluster/image/layer"
	"github.com/dind-cluster/dind-cluster/image/state"
)

// Spec describes an image to build. The Bazel rule writes it, as JSON.
type Spec struct {
	// Base is the image below, if any.
	Base   *Files       `json:"base,omitempty"`
	Layers []LayerFiles `json:"layers"`
	Config Config       `json:"config"`
	// Annotations are the manifest's. The base image's are not inherited; Build adds BaseName and
	// BaseDigest.
	Annotations map[string]string `json:"annotations,omitempty"`
	// State is the file with the state of the highest layer, whose packages become the annotation
	// Packages.
	State string `json:"state,omitempty"`
}

// Annotations that Build adds to those of the spec.
const (
	// BaseName and BaseDigest identify the image that the first layers are from:
	// https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
	BaseName   = "org.opencontainers.image.base.name"
	BaseDigest = "org.opencontainers.image.base.digest"
	// Packages are the installed Debian packages as apt names them, NAME=VERSION, sorted, separated
	// by spaces. It is an annotation and not a label: engines copy an image's labels to each of its
	// containers, and containerd accepts at most 4096 bytes for a label:
	// https://github.com/containerd/containerd/blob/v2.3.7/pkg/labels/validate.go
	Packages = "dind-cluster.debian-packages"
)

// Config is the part of an image's config that is for its containers. Fields that are empty are the
// base image's.
type Config struct {
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Env          map[string]string `json:"env,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Volumes      []string          `json:"volumes,omitempty"`
	ExposedPorts []string          `json:"exposedPorts,omitempty"`
	StopSignal   string            `json:"stopSignal,omitempty"`
	WorkingDir   string            `json:"workingDir,omitempty"`
	User         string            `json:"user,omitempty"`
	Healthcheck  *Healthcheck      `json:"healthcheck,omitempty"`
}

// Healthcheck is a command that reports whether a container is healthy. Durations are in Go's
// notation: 5s, 1m30s.
type Healthcheck struct {
	Command       []string `json:"command"`
	Interval      string   `json:"interval,omitempty"`
	Timeout       string   `json:"timeout,omitempty"`
	StartPeriod   string   `json:"startPeriod,omitempty"`
	StartInterval string   `json:"startInterval,omitempty"`
	Retries       int      `json:"retries,omitempty"`
}

// ReadSpec reads a spec file.
func ReadSpec(path string) (*Spec, error) { return jsonfile.Read[Spec]("image spec", path) }

// Build makes an image's config and manifest from the metadata of its layers.
func Build(s *Spec) (config, manifest []byte, err error) {
	cf := &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}}
	m := &v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	if s.Base != nil {
		if cf, m, err = readBase(s.Base); err != nil {
			return nil, nil, err
		}
	}
	created := v1.Time{Time: time.Unix(0, 0).UTC()}
	cf.Created = created
	for _, l := range s.Layers {
		meta, err := layer.ReadMetadata(l.Metadata)
		if err != nil {
			return nil, nil, err
		}
		descriptor, diffID, err := describe(meta)
		if err != nil {
			return nil, nil, err
		}
		m.Layers = append(m.Layers, descriptor)
		cf.RootFS.DiffIDs = append(cf.RootFS.DiffIDs, diffID)
		cf.History = append(cf.History, v1.History{Created: created, CreatedBy: meta.Name})
	}
	if err := s.Config.apply(&cf.Config); err != nil {
		return nil, nil, err
	}
	if config, err = compact(cf); err != nil {
		return nil, nil, err
	}
	if config, err = s.Config.Healthcheck.addStartInterval(config); err != nil {
		return nil, nil, err
	}
	if m.Annotations, err = s.annotations(); err != nil {
		return nil, nil, err
	}
	m.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)), Digest: Hash(config)}
	if manifest, err = compact(m); err != nil {
		return nil, nil, err
	}
	return config, manifest, nil
}

func readBase(f *Files) (*v1.ConfigFile, *v1.Manifest, error) {
	config, err := os.ReadFile(f.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("reading base image: %w", err)
	}
	manifest, err := os.ReadFile(f.Manifest)
	if err != nil {
		return nil, nil, fmt.Errorf("reading base image: %w", err)
	}
	cf, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, nil, fmt.Errorf("reading base image's config %s: %w", f.Config, err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return nil, nil, fmt.Errorf("reading base image's manifest %s: %w", f.Manifest, err)
	}
	return cf, m, nil
}

// annotations returns the spec's annotations, with those for the base image and the packages.
func (s *Spec) annotations() (map[string]string, error) {
	all := mergeMaps(nil, s.Annotations)
	if s.Base != nil {
		manifest, err := os.ReadFile(s.Base.Manifest)
		if err != nil {
			return nil, fmt.Errorf("reading base image: %w", err)
		}
		all[BaseName], all[BaseDigest] = s.Base.Name, Hash(manifest).String()
	}
	if s.State != "" {
		below, err := state.Read(s.State)
		if err != nil {
			return nil, err
		}
		var list []string
		for _, name := range slices.Sorted(maps.Keys(below.Packages)) {
			list = append(list, name+"="+below.Packages[name])
		}
		if len(list) > 0 {
			all[Packages] = strings.Join(list, " ")
		}
	}
	return all, nil
}

func describe(m *layer.Metadata) (v1.Descriptor, v1.Hash, error) {
	digest, err1 := v1.NewHash(m.Digest)
	diffID, err2 := v1.NewHash(m.DiffID)
	if err := errors.Join(err1, err2); err != nil {
		return v1.Descriptor{}, v1.Hash{}, fmt.Errorf("layer %s: %w", m.Name, err)
	}
	return v1.Descriptor{MediaType: types.MediaType(m.MediaType), Size: m.Size, Digest: digest}, diffID, nil
}

// apply writes the config over the base's.
func (c *Config) apply(to *v1.Config) error {
	if len(c.Entrypoint) > 0 {
		// As in a Dockerfile, where an ENTRYPOINT resets the CMD of the base image:
		// https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact
		to.Entrypoint, to.Cmd = c.Entrypoint, nil
	}
	if len(c.Cmd) > 0 {
		to.Cmd = c.Cmd
	}
	to.Env = mergeEnv(to.Env, c.Env)
	if len(c.Labels) > 0 {
		to.Labels = mergeMaps(to.Labels, c.Labels)
	}
	to.Volumes = addKeys(to.Volumes, c.Volumes)
	ports := slices.Clone(c.ExposedPorts)
	for i, p := range ports {
		if !strings.Contains(p, "/") {
			ports[i] = p + "/tcp"
		}
	}
	to.ExposedPorts = addKeys(to.ExposedPorts, ports)
	for _, f := range []struct {
		to   *string
		from string
	}{{&to.StopSignal, c.StopSignal}, {&to.WorkingDir, c.WorkingDir}, {&to.User, c.User}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	if c.Healthcheck == nil {
		return nil
	}
	check, err := c.Healthcheck.config()
	to.Healthcheck = check
	return err
}

func (h *Healthcheck) config() (*v1.HealthConfig, error) {
	check := &v1.HealthConfig{Test: append([]string{"CMD"}, h.Command...), Retries: h.Retries}
	for _, d := range []struct {
		to   *time.Duration
		from string
	}{{&check.Interval, h.Interval}, {&check.Timeout, h.Timeout}, {&check.StartPeriod, h.StartPeriod}} {
		if d.from == "" {
			continue
		}
		parsed, err := time.ParseDuration(d.from)
		if err != nil {
			return nil, fmt.Errorf("health check: %w", err)
		}
		*d.to = parsed
	}
	return check, nil
}

// addStartInterval adds the one field of Docker's health checks that HealthConfig of
// go-containerregistry 0.22 lacks.
func (h *Healthcheck) addStartInterval(config []byte) ([]byte, error) {
	if h == nil || h.StartInterval == "" {
		return config, nil
	}
	interval, err := time.ParseDuration(h.StartInterval)
	if err != nil {
		return nil, fmt.Errorf("health check: %w", err)
	}
	var all, inner, check map[string]json.RawMessage
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(all["config"], &inner); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(inner["Healthcheck"], &check); err != nil {
		return nil, err
	}
	if check["StartInterval"], err = compact(interval); err != nil {
		return nil, err
	}
	if inner["Healthcheck"], err = compact(check); err != nil {
		return nil, err
	}
	if all["config"], err = compact(inner); err != nil {
		return nil, err
	}
	return compact(all)
}

// mergeEnv replaces variables in place and adds new ones by name.
func mergeEnv(have []string, set map[string]string) []string {
	set = maps.Clone(set)
	out := slices.Clone(have)
	for i, line := range out {
		name, _, _ := strings.Cut(line, "=")
		if value, ok := set[name]; ok {
			out[i] = name + "=" + value
			delete(set, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, name+"="+set[name])
	}
	return out
}

func mergeMaps(have, set map[string]string) map[string]string {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, set)
	return out
}

func addKeys(have map[string]struct{}, keys []string) map[string]struct{} {
	if len(keys) == 0 {
		return have
	}
	out := maps.Clone(have)
	if out == nil {
		out = map[string]struct{}{}
	}
	for _, k := range keys {
		out[k] = struct{}{}
	}
	return out
}

// compact encodes JSON without escapes for HTML and without a newline at the end.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Hash returns the digest of some bytes.
func Hash(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}
