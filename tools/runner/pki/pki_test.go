package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"regexp"
	"testing"
	"time"
)

func TestClientIsTrusted(t *testing.T) {
	now := time.Now()
	ca, err := NewCA("kubernetes", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCA("kubernetes", now)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.NewClient("admin", []string{"system:masters"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(client.Cert, client.Key); err != nil {
		t.Errorf("certificate and key do not fit: %v", err)
	}
	block, _ := pem.Decode(client.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "admin" || len(cert.Subject.Organization) != 1 || cert.Subject.Organization[0] != "system:masters" {
		t.Errorf("got subject %v", cert.Subject)
	}
	for _, test := range []struct {
		ca    *Pair
		at    time.Time
		valid bool
	}{{ca, now, true}, {ca, now.Add(-time.Minute), true}, {ca, now.Add(Lifetime + time.Hour), false}, {other, now, false}} {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(test.ca.Cert) {
			t.Fatal("no certificate in the authority's PEM")
		}
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: test.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != test.valid {
			t.Errorf("at %v: got %v, want valid: %v", test.at, err, test.valid)
		}
	}
}

func TestBrokenCA(t *testing.T) {
	for _, ca := range []*Pair{{}, {Cert: []byte("x"), Key: []byte("y")}} {
		if _, err := ca.NewClient("admin", nil, time.Now()); err == nil {
			t.Error("no error")
		}
	}
}

func TestTokens(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		token, err := NewToken()
		if err != nil {
			t.Fatal(err)
		}
		key, err := NewCertificateKey()
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(token) {
			t.Errorf("token %q", token)
		}
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(key) {
			t.Errorf("certificate key %q", key)
		}
		if seen[token] || seen[key] {
			t.Fatal("the same secret twice")
		}
		seen[token], seen[key] = true, true
	}
}
