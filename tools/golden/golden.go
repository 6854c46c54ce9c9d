package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
	"github.com/dind-cluster/dind-cluster/image/mtree"
)

// golden is a golden listing, in the format of mtree(5), and what it is compared with.
type golden struct {
	// Path is the golden's in the workspace.
	Path string `json:"path"`
	// Listings are those of the layers as they are built, the lowest first.
	Listings []string `json:"listings"`
	// Known are layers that other goldens list.
	Known []known `json:"known"`
	// IgnoreContent has patterns of absolute paths of which neither size nor checksum counts.
	IgnoreContent []string `json:"ignoreContent"`
	// Count has patterns of absolute paths of directories of which only the number of files counts.
	Count []string `json:"count"`
	// UpdateCommand is what writes the golden.
	UpdateCommand string `json:"updateCommand"`
}

// known is a layer by its label.
type known struct {
	Layer   string `json:"layer"`
	Listing string `json:"listing"`
}

// shownDifferences limits a report: more than a screen of them is a new image.
const shownDifferences = 60

// listing makes the golden that fits the layers.
func (g *golden) listing() (string, error) {
	var layers []source
	for _, k := range g.Known {
		text, err := os.ReadFile(k.Listing)
		if err != nil {
			return "", fmt.Errorf("reading the listing of %s: %w", k.Layer, err)
		}
		layers = append(layers, source{k.Layer, parse(string(text))})
	}
	var all strings.Builder
	for _, name := range g.Listings {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("reading a listing: %w", err)
		}
		l := parse(string(text))
		l.refer(layers)
		l.count(func(p string) bool { return matches(g.Count, p) })
		all.WriteString(l.String())
	}
	return mtree.Blur(all.String(), func(p string) bool { return matches(g.IgnoreContent, p) }), nil
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return declare.Match(pattern, path) })
}

// compare compares the golden with what it should be.
func (g *golden) compare(actual string) error {
	text, err := os.ReadFile(g.Path)
	if err != nil {
		return fmt.Errorf("reading a golden: %w", err)
	}
	differences, err := mtree.Diff(string(text), actual)
	if err != nil {
		return fmt.Errorf("comparing %s: %w", g.Path, err)
	}
	if len(differences) == 0 {
		return nil
	}
	var report strings.Builder
	fmt.Fprintf(&report, "%d paths differ from %s:\n", len(differences), g.Path)
	for i, d := range differences {
		if i == shownDifferences {
			fmt.Fprintf(&report, "… and %d more\n", len(differences)-i)
			break
		}
		fmt.Fprintln(&report, d)
	}
	fmt.Fprintf(&report, "If this is as it should be: %s", g.UpdateCommand)
	return errors.New(report.String())
}

// write writes the golden into the workspace.
func (g *golden) write(workspace, actual string) error {
	if workspace == "" {
		return fmt.Errorf("%s can only be written by bazel run: %s", g.Path, g.UpdateCommand)
	}
	file := filepath.Join(workspace, g.Path)
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the golden as it is: %w", err)
	}
	if string(old) == actual {
		fmt.Printf("%s is as it was\n", g.Path)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("writing %s: %w", g.Path, err)
	}
	if err := os.WriteFile(file, []byte(actual), 0o644); err != nil {
		return fmt.Errorf("writing %s: %w", g.Path, err)
	}
	fmt.Printf("%s is written: review the difference\n", g.Path)
	return nil
}
