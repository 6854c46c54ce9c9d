package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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
	}{{ca, now, true}, {ca, now.Add(-12 * time.Hour), true}, {ca, now.Add(Lifetime + time.Hour), false}, {other, now, false}} {
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

// Whatever the authority's algorithm, what it signs has the same, and is trusted.
func TestAlgorithms(t *testing.T) {
	now := time.Now()
	for _, a := range []Algorithm{ECDSAP256, ECDSAP384, RSA2048} {
		ca, err := a.NewCA("kubernetes", now)
		if err != nil {
			t.Fatal(err)
		}
		client, err := ca.NewClient("admin", nil, now)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(client.Cert, client.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got := algorithmOf(pair.PrivateKey.(crypto.Signer)); got != a {
			t.Errorf("%s signed a certificate of %s", a, got)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca.Cert)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		key, err := a.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		public, _ := pem.Decode(key.Cert)
		if _, err := x509.ParsePKIXPublicKey(public.Bytes); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := Algorithm("DSA").NewCA("kubernetes", now); err == nil {
		t.Error("no error")
	}
}
