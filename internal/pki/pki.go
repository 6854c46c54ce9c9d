// Package pki makes what a new cluster keeps secret: its certificate authority and client
// certificates signed by it. All of it is fresh for every cluster, so that an image holds no
// cluster's key.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Lifetime is how long an authority and all that it signs are valid. Clusters made for tests are
// not renewed.
const Lifetime = 10 * 365 * 24 * time.Hour

// skew allows for a clock that is set back after the certificate was made, as where a virtual
// machine takes the host's local time for UTC until it has synchronized.
const skew = 24 * time.Hour

// Pair is a certificate with its private key, both PEM-encoded.
type Pair struct {
	Cert []byte
	Key  []byte
}

// Algorithm is what keys are made by, in kubeadm's words (EncryptionAlgorithmType in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go).
type Algorithm string

// The algorithms.
const (
	ECDSAP256 Algorithm = "ECDSA-P256"
	ECDSAP384 Algorithm = "ECDSA-P384"
	RSA2048   Algorithm = "RSA-2048"
	RSA3072   Algorithm = "RSA-3072"
	RSA4096   Algorithm = "RSA-4096"
)

func (a Algorithm) newKey() (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("unknown algorithm %q", a)
}

// algorithmOf returns the algorithm of a key.
func algorithmOf(key crypto.Signer) Algorithm {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return Algorithm(fmt.Sprintf("RSA-%d", key.N.BitLen()))
	case *ecdsa.PrivateKey:
		return Algorithm("ECDSA-" + map[string]string{"P-256": "P256", "P-384": "P384"}[key.Params().Name])
	}
	return ""
}

// NewCA makes a certificate authority by the algorithm that clusters have unless they ask for
// another: ECDSA because an RSA key takes up to a second to find, and kubeadm makes eight more
// under this one.
func NewCA(name string, now time.Time) (*Pair, error) { return ECDSAP256.NewCA(name, now) }

// NewCA makes a certificate authority.
func (a Algorithm) NewCA(name string, now time.Time) (*Pair, error) {
	key, err := a.newKey()
	if err != nil {
		return nil, fmt.Errorf("making the key of certificate authority %s: %w", name, err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(Lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
	}
	return sign(template, template, key, key)
}

// NewKey makes a key pair without a certificate: what signs service accounts' tokens. Its Cert is the
// public key.
func (a Algorithm) NewKey() (*Pair, error) {
	key, err := a.newKey()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	private, err := encode(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return &Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		Key:  private,
	}, nil
}

// encode writes a key as PEM, in the forms that kubeadm has.
func encode(key crypto.Signer) ([]byte, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	}
	return nil, fmt.Errorf("unknown key %T", key)
}

// NewClient makes a client certificate for a user in some groups, signed by the authority, whose
// algorithm its key has, too.
func (ca *Pair) NewClient(user string, groups []string, now time.Time) (*Pair, error) {
	caCert, caKey, err := ca.parse()
	if err != nil {
		return nil, err
	}
	key, err := algorithmOf(caKey).newKey()
	if err != nil {
		return nil, fmt.Errorf("making the key of client %s: %w", user, err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return sign(template, caCert, key, caKey)
}

// NewServer makes the certificate of a kubelet as a server, signed by the authority, as the cluster's controllers would sign it if
// it asked them (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers): so
// whoever trusts the cluster's authority can tell that it is this node. Its key is by ECDSA, whatever the authority's.
func (ca *Pair) NewServer(node string, addresses []net.IP, now time.Time) (*Pair, error) {
	caCert, caKey, err := ca.parse()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of %s: %w", node, err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}},
		DNSNames:    []string{node},
		IPAddresses: addresses,
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return sign(template, caCert, key, caKey)
}

// NewSelfSigned makes a server certificate for some names and addresses that no authority has
// signed: of the kind that Kubernetes' components make for themselves when they have none, but in a
// hundredth of the time, for theirs have RSA keys, two of them.
func NewSelfSigned(name string, addresses []net.IP, now time.Time) (*Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of %s: %w", name, err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		IPAddresses:           addresses,
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(Lifetime),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	return sign(template, template, key, key)
}

func sign(template, parent *x509.Certificate, key, parentKey crypto.Signer) (*Pair, error) {
	name := template.Subject.CommonName
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number for %s: %w", name, err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	private, err := encode(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of %s: %w", name, err)
	}
	return &Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  private,
	}, nil
}

func (ca *Pair) parse() (*x509.Certificate, crypto.Signer, error) {
	certBlock, _ := pem.Decode(ca.Cert)
	keyBlock, _ := pem.Decode(ca.Key)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("the certificate authority is not PEM-encoded")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	if key, err := x509.ParsePKCS1PrivateKey(keyBlock.Bytes); err == nil {
		return cert, key, nil
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the authority's key: %w", err)
	}
	return cert, key, nil
}
