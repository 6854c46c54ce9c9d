package effects

import (
	"fmt"
	"path"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/declare"
)

const (
	caSource = "usr/share/ca-certificates"
	caDir    = "etc/ssl/certs"
)

// caBundle does what update-ca-certificates(8) does for programs that read the bundle: it
// concatenates all certificates of the packages, by path.
func (s *System) caBundle(n declare.Named) error {
	if !n.CABundle {
		return nil
	}
	var bundle, conf strings.Builder
	for _, e := range s.Tree.Entries() {
		if !strings.HasPrefix(e.Path, caSource+"/") || !strings.HasSuffix(e.Path, ".crt") || e.IsDir() {
			continue
		}
		text, ok, err := s.read(e.Path)
		if err != nil {
			return err
		}
		if !ok || !strings.Contains(text, "-----BEGIN CERTIFICATE-----") {
			return fmt.Errorf("CA bundle: /%s is no PEM certificate", e.Path)
		}
		bundle.WriteString(strings.TrimRight(text, "\n") + "\n")
		conf.WriteString(strings.TrimPrefix(e.Path, caSource+"/") + "\n")
		pem := strings.TrimSuffix(path.Base(e.Path), ".crt") + ".pem"
		if err := s.link(caDir+"/"+pem, "/"+e.Path, n.Source); err != nil {
			return err
		}
	}
	if bundle.Len() == 0 {
		return fmt.Errorf("CA bundle: no package brings certificates in /%s", caSource)
	}
	for _, f := range [][2]string{{caDir + "/ca-certificates.crt", bundle.String()}, {"etc/ca-certificates.conf", conf.String()}} {
		e, err := Text(f[0], f[1], 0o644, n.Source)
		if err != nil {
			return err
		}
		if err := s.Tree.Add(e); err != nil {
			return err
		}
	}
	return nil
}
