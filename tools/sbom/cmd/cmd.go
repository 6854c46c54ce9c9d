// Package cmd is the command line of sbom.
package cmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/image"
	"github.com/dind-cluster/dind-cluster/image/jsonfile"
	"github.com/dind-cluster/dind-cluster/image/sbom/contents"
	"github.com/dind-cluster/dind-cluster/image/sbom/document"
	"github.com/dind-cluster/dind-cluster/image/sbom/scan"
)

type flags struct {
	image, root, vendor, output string
	locks, programs             []string
}

// New makes the command.
func New() *cobra.Command {
	f := &flags{}
	c := &cobra.Command{
		Use:           "sbom --image image.files.json --output image.spdx.json",
		Short:         "Writes a software bill of materials of a built image as SPDX 2.3",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(c *cobra.Command, _ []string) error { return f.run(c.Context()) },
	}
	c.Flags().StringVar(&f.image, "image", "", "the description of the image's files (JSON)")
	c.Flags().StringVar(&f.root, "root", "", "the directory that the paths in it are relative to (default: the current one)")
	c.Flags().StringArrayVar(&f.locks, "lock", nil, "a lock of Debian packages (JSON), for the checksums of their files; repeat")
	c.Flags().StringVar(&f.vendor, "vendor", "", "the vendor of the image, and of the Debian packages that no lock has")
	c.Flags().StringArrayVar(&f.programs, "program", nil, "PROGRAM=MODULES: a Go program that may be in the image and carries no list of its modules, and that list, as `go version -m` shows it; repeat")
	c.Flags().StringVarP(&f.output, "output", "o", "", "output: the document")
	for _, required := range []string{"image", "output"} {
		_ = c.MarkFlagRequired(required)
	}
	return c
}

func (f *flags) run(ctx context.Context) error {
	files, err := image.ReadFiles(f.image, f.root)
	if err != nil {
		return err
	}
	modules, err := readPrograms(f.programs)
	if err != nil {
		return err
	}
	archive, err := readLocks(f.locks)
	if err != nil {
		return err
	}
	doc, err := generate(ctx, files, contents.Options{Modules: modules}, document.Options{Vendor: f.vendor, Archive: archive})
	if err != nil {
		return fmt.Errorf("image %s: %w", files.Name, err)
	}
	if err := os.WriteFile(f.output, doc, 0o644); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func generate(ctx context.Context, files *image.Files, c contents.Options, d document.Options) ([]byte, error) {
	img, err := image.Open(files)
	if err != nil {
		return nil, err
	}
	layers, err := scan.Layers(ctx, img)
	if err != nil {
		return nil, err
	}
	inventory, err := contents.Read(files.Name, img, layers, c)
	if err != nil {
		return nil, err
	}
	doc, err := document.New(inventory, d)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = document.Write(&b, doc)
	return b.Bytes(), err
}

// readPrograms reads the module lists of programs, by the programs' digests.
func readPrograms(programs []string) (map[string]*debug.BuildInfo, error) {
	all := map[string]*debug.BuildInfo{}
	for _, pair := range programs {
		program, list, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("--program %s: it must be PROGRAM=MODULES, two files", pair)
		}
		text, err := os.ReadFile(list)
		if err != nil {
			return nil, fmt.Errorf("reading module list: %w", err)
		}
		info, err := debug.ParseBuildInfo(string(text))
		if err == nil && info.Main.Path == "" {
			err = errors.New("it names no main module")
		}
		if err != nil {
			return nil, fmt.Errorf("reading module list %s: %w", list, err)
		}
		sum, err := digest(program)
		if err != nil {
			return nil, fmt.Errorf("reading program: %w", err)
		}
		all[sum] = info
	}
	return all, nil
}

func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// lock has the fields that are used of a lock of Debian packages, as scripts/lock writes it.
type lock struct {
	Packages []struct {
		Name, Version, Architecture, Path, SHA256 string
	}
}

func readLocks(files []string) (map[string]document.ArchiveFile, error) {
	all := map[string]document.ArchiveFile{}
	for _, file := range files {
		l, err := jsonfile.Read[lock]("lock", file)
		if err != nil {
			return nil, err
		}
		for _, p := range l.Packages {
			all[p.Name+" "+p.Version+" "+p.Architecture] = document.ArchiveFile{Name: path.Base(p.Path), SHA256: p.SHA256}
		}
	}
	return all, nil
}
