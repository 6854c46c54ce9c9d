package entrypoint

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/cluster/node"
)

// caBundle is the file in which programs look for the authorities to trust, and caSources the directory from which
// update-ca-certificates(8) makes it, should a person call that.
const (
	caBundle  = "etc/ssl/certs/ca-certificates.crt"
	caSources = "usr/local/share/ca-certificates"
)

// ownCAs is the line in caBundle after which there are a user's.
const ownCAs = "# additionalCACertificates of the cluster\n"

// trust makes authorities, PEM, known to the programs in this container, in the place of those that were named at the start
// before.
func trust(root string, certificates []string) error {
	bundle := filepath.Join(root, caBundle)
	had, err := os.ReadFile(bundle)
	if err != nil {
		return fmt.Errorf("adding authorities to those that are trusted: %w", err)
	}
	usual, _, _ := bytes.Cut(had, []byte(ownCAs))
	var want bytes.Buffer
	want.Write(usual)
	if len(certificates) > 0 {
		want.WriteString(ownCAs)
	}
	for i, text := range certificates {
		text = strings.TrimSpace(text) + "\n"
		want.WriteString(text)
		if err := os.WriteFile(filepath.Join(root, caSources, fmt.Sprintf("dind-cluster-%d.crt", i+1)), []byte(text), 0o644); err != nil {
			return fmt.Errorf("adding authorities to those that are trusted: %w", err)
		}
	}
	if bytes.Equal(want.Bytes(), had) {
		return nil
	}
	if err := os.WriteFile(bundle, want.Bytes(), 0o644); err != nil {
		return fmt.Errorf("adding authorities to those that are trusted: %w", err)
	}
	return nil
}

// trustAsTold is trust for a node, whose configuration is in a directory.
func trustAsTold(dir string) error {
	config, err := node.ReadConfig(dir)
	if err != nil || len(config.Topology.CACertificates) == 0 {
		return nil // the node's runner says what is missing
	}
	return trust("/", config.Topology.CACertificates)
}
