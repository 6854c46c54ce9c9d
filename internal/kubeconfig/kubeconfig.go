// Package kubeconfig writes and reads kubeconfigs with one cluster, one user and one context, and
// adds them to the files that kubectl reads.
package kubeconfig

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// Config is a kubeconfig with one cluster, one user and one context.
type Config struct {
	// Name names the cluster, the user and the context.
	Name string
	// Server is the API server's URL.
	Server string
	// CA is the PEM-encoded certificate of the authority that signed the server's certificate.
	CA []byte
	// Cert and Key are the user's, PEM-encoded.
	Cert, Key []byte
	// CertFile and KeyFile are paths of the same, for clients whose certificate is renewed.
	CertFile, KeyFile string
}

type file struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Contexts       []namedContext `json:"contexts"`
	Users          []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string `json:"name"`
	Cluster struct {
		Server string `json:"server"`
		CA     []byte `json:"certificate-authority-data"`
	} `json:"cluster"`
}

type namedContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

type namedUser struct {
	Name string `json:"name"`
	User struct {
		Cert []byte `json:"client-certificate-data,omitempty"`
		Key  []byte `json:"client-key-data,omitempty"`

		CertFile string `json:"client-certificate,omitempty"`
		KeyFile  string `json:"client-key,omitempty"`
	} `json:"user"`
}

// Marshal writes the file. It holds secrets: write it with mode 0600.
func (c Config) Marshal() ([]byte, error) {
	f := file{
		APIVersion: "v1", Kind: "Config", CurrentContext: c.Name,
		Clusters: []namedCluster{{Name: c.Name}},
		Contexts: []namedContext{{Name: c.Name}},
		Users:    []namedUser{{Name: c.Name}},
	}
	f.Clusters[0].Cluster.Server = c.Server
	f.Clusters[0].Cluster.CA = c.CA
	f.Contexts[0].Context.Cluster = c.Name
	f.Contexts[0].Context.User = c.Name
	f.Users[0].User.Cert = c.Cert
	f.Users[0].User.Key = c.Key
	f.Users[0].User.CertFile = c.CertFile
	f.Users[0].User.KeyFile = c.KeyFile
	out, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return out, nil
}

// Parse reads a file that Marshal wrote.
func Parse(data []byte) (Config, error) {
	var f file
	if err := yaml.Unmarshal(data, &f); err != nil {
		return Config{}, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if len(f.Clusters) != 1 || len(f.Users) != 1 {
		return Config{}, fmt.Errorf("reading the kubeconfig: it has %d clusters and %d users, want one of each", len(f.Clusters), len(f.Users))
	}
	if f.Clusters[0].Cluster.Server == "" {
		return Config{}, fmt.Errorf("reading the kubeconfig: cluster %q has no server", f.Clusters[0].Name)
	}
	return Config{
		Name:   f.Clusters[0].Name,
		Server: f.Clusters[0].Cluster.Server,
		CA:     f.Clusters[0].Cluster.CA,
		Cert:   f.Users[0].User.Cert,
		Key:    f.Users[0].User.Key,

		CertFile: f.Users[0].User.CertFile,
		KeyFile:  f.Users[0].User.KeyFile,
	}, nil
}
