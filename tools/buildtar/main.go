// Command buildtar is the tar writer of rules_docker's container_image for layers that are complete
// already: it takes the one archive it is given as it is, and refuses everything else.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/cli"
)

// manifest lists the files of a layer, as rules_docker writes it for its tar writer.
type manifest struct {
	Files         []any    `json:"files"`
	Symlinks      []any    `json:"symlinks"`
	EmptyFiles    []string `json:"empty_files"`
	EmptyDirs     []string `json:"empty_dirs"`
	EmptyRootDirs []string `json:"empty_root_dirs"`
	Tars          []string `json:"tars"`
	Debs          []string `json:"debs"`
}

func main() {
	output := flag.String("output", "", "layer to write")
	list := flag.String("manifest", "", "JSON `file` of what goes into the layer")
	for _, ignored := range []string{"directory", "mode", "mtime", "xz_path", "root_directory"} {
		flag.String(ignored, "", "ignored")
	}
	flag.Parse()
	cli.End("buildtar: writing "+*output, run(*list, *output))
}

func run(list, output string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("reading %s: %w", list, err)
	}
	if len(m.Tars) != 1 || len(m.Files)+len(m.Symlinks)+len(m.EmptyFiles)+len(m.EmptyDirs)+len(m.EmptyRootDirs)+len(m.Debs) > 0 {
		return errors.New("give the image exactly one archive (tars) and no other files: make it with component_layer")
	}
	in, err := os.Open(m.Tars[0])
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(output)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
