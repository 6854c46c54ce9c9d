// Command cabundle writes the certificates of Debian's ca-certificates package as one file, sorted
// by name, as update-ca-certificates would. An image of static programs needs no more of that
// package.
package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/deb"
	"github.com/dind-cluster/dind-cluster/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		cli.End("cabundle", cli.Usage("cabundle ca-certificates.deb BUNDLE"))
	}
	cli.End("cabundle: reading "+os.Args[1], run(os.Args[1], os.Args[2]))
}

func run(name, out string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := deb.Read(f)
	if err != nil {
		return err
	}
	certificates := map[string]string{}
	err = p.Data(func(hdr *tar.Header, content io.Reader) error {
		if hdr.Typeflag != tar.TypeReg || path.Ext(hdr.Name) != ".crt" {
			return nil
		}
		text, err := io.ReadAll(content)
		certificates[hdr.Name] = strings.TrimSpace(string(text)) + "\n"
		return err
	})
	if err != nil {
		return err
	}
	if len(certificates) == 0 {
		return errors.New("the package holds no certificates")
	}
	var names []string
	for name := range certificates {
		names = append(names, name)
	}
	slices.Sort(names)
	var bundle strings.Builder
	for _, name := range names {
		bundle.WriteString(certificates[name])
	}
	return os.WriteFile(out, []byte(bundle.String()), 0o644)
}
