// Package certification makes the directory that CNCF's certification of Kubernetes products asks
// for, as described in https://github.com/cncf/k8s-conformance/blob/master/instructions.md.
package certification

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"text/template"

	"github.com/dind-cluster/dind-cluster/tools/e2e/results"
)

// product is the directory's name for this product.
const product = "dind-cluster"

//go:embed PRODUCT.yaml.tmpl README.md.tmpl
var files embed.FS

var templates = template.Must(template.New("").
	Funcs(template.FuncMap{"duration": results.Duration}).ParseFS(files, "*.tmpl"))

// minor is the part of a version that names the directory.
var minor = regexp.MustCompile(`^(v[0-9]+\.[0-9]+)\.[0-9]+`)

// Write makes certification/vX.Y/dind-cluster below dir, if the run is fit for it; otherwise the
// reason says why not. An earlier directory is removed in any case.
func Write(dir string, r *results.Run) (reason string, err error) {
	top := filepath.Join(dir, results.CertificationDir)
	if err := os.RemoveAll(top); err != nil {
		return "", err
	}
	version := minor.FindStringSubmatch(r.Server)
	switch passed := r.Count(results.Passed); {
	case !r.Product:
		return "the run did not go on inside a dind-cluster", nil
	case !r.Conformance:
		return "the run was not of exactly the conformance specs", nil
	case r.Server != r.Version:
		return fmt.Sprintf("the specs are those of %s, the cluster is %s", r.Version, r.Server), nil
	case r.End == nil || r.Cause != "" || !r.Complete:
		return "the run did not come to its end", nil
	case r.Count(results.Flaked) > 0:
		return "a spec passed only when it was tried again", nil
	case passed != len(r.Specs) || len(r.Setup) > 0 || r.GinkgoStatus != 0:
		return "not everything passed", nil
	case version == nil:
		return fmt.Sprintf("%q is no version of Kubernetes", r.Server), nil
	}
	if err := write(dir, filepath.Join(top, version[1], product), r); err != nil {
		return "", fmt.Errorf("making the directory for the certification: %w", errors.Join(err, os.RemoveAll(top)))
	}
	return "", nil
}

func write(from, to string, r *results.Run) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"PRODUCT.yaml", "README.md"} {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, name+".tmpl", r); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{results.LogFile, results.JUnitFile} {
		if err := link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

// link gives a file a second name, or copies it where that cannot be.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
