// Package manifest creates the objects that YAML files describe, as `kubectl apply --server-side` does.
package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
	"sigs.k8s.io/yaml"
)

// manager is the owner of the applied fields in the objects' metadata.managedFields.
const manager = "dind-cluster"

// Document is one object of a file.
type Document struct {
	// Source says where the object is written, for errors.
	Source                            string
	APIVersion, Kind, Namespace, Name string
	// JSON is the object.
	JSON json.RawMessage
}

// String names the object, and where it is written.
func (d Document) String() string {
	name := d.Name
	if d.Namespace != "" {
		name = d.Namespace + "/" + name
	}
	return fmt.Sprintf("%s: %s %s", d.Source, d.Kind, name)
}

// Parse returns the objects in a text of YAML documents, those in lists one by one. The error joins one for each document that
// is no object, with the source and the number of the document in front, from 1.
func Parse(source, text string) ([]Document, error) {
	var out []Document
	var errs []error
	for i, one := range v1alpha1.Documents(text) {
		source := fmt.Sprintf("%s: document %d", source, i+1)
		data, err := yaml.YAMLToJSONStrict([]byte(one))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: not YAML: %w", source, err))
			continue
		}
		documents, err := parse(source, data)
		out, errs = append(out, documents...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// parse returns the objects in one document, which may be a list.
func parse(source string, data []byte) ([]Document, error) {
	var object struct {
		APIVersion, Kind string
		Metadata         struct{ Namespace, Name string }
		Items            []json.RawMessage
	}
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("%s: no Kubernetes object: %w", source, err)
	}
	switch {
	case object.APIVersion == "" || object.Kind == "":
		return nil, fmt.Errorf("%s: no Kubernetes object: want apiVersion and kind", source)
	case strings.HasSuffix(object.Kind, "List") && object.Items != nil:
		var out []Document
		var errs []error
		for i, item := range object.Items {
			documents, err := parse(fmt.Sprintf("%s: items[%d]", source, i), item)
			out, errs = append(out, documents...), append(errs, err)
		}
		return out, errors.Join(errs...)
	case object.Metadata.Name == "":
		return nil, fmt.Errorf("%s: %s has no metadata.name: want one, since what is applied again has to be found again", source, object.Kind)
	}
	return []Document{{source, object.APIVersion, object.Kind, object.Metadata.Namespace, object.Metadata.Name, data}}, nil
}

// poll is the pause between two tries of objects that the API server does not take yet.
const poll = 100 * time.Millisecond

// Apply creates objects, or changes those that are there, in their order. What one of them needs may come later or take its
// time: a definition of its kind, its namespace, an account, a webhook. It is tried until ctx ends; what the API server calls
// invalid is not. The error joins one for each object that could not be applied; all others are.
func Apply(ctx context.Context, api *kubeapi.Client, documents []Document) error {
	a := applier{api: api, kinds: map[string][]resource{}}
	last := map[int]error{}
	var pending []int
	for i := range documents {
		pending = append(pending, i)
	}
	for {
		var left []int
		for _, i := range pending {
			if ctx.Err() != nil {
				left = append(left, i)
				continue
			}
			err := a.apply(ctx, documents[i])
			switch {
			case err == nil:
				delete(last, i)
				continue
			case ctx.Err() == nil || last[i] == nil:
				last[i] = err
			}
			if !final(err) {
				left = append(left, i)
			}
		}
		pending = left
		if len(pending) == 0 {
			break
		}
		a.kinds = map[string][]resource{} // there may be more by now
		select {
		case <-ctx.Done():
		case <-time.After(poll):
			continue
		}
		break
	}
	var errs []error
	waited := map[int]bool{}
	for _, i := range pending {
		waited[i] = true
	}
	for i, d := range documents {
		switch err := last[i]; {
		case waited[i] && err != nil:
			errs = append(errs, fmt.Errorf("%v: %w: %w", d, context.Cause(ctx), err))
		case waited[i]:
			errs = append(errs, fmt.Errorf("%v: %w", d, context.Cause(ctx)))
		case err != nil:
			errs = append(errs, fmt.Errorf("%v: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

// final reports whether it would not help to try again. What does not fit an object's schema is an internal error to the API
// server (Apply in
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/structuredmerge.go).
func final(err error) bool {
	var status *kubeapi.StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.Code {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusMethodNotAllowed:
		return true
	}
	return strings.Contains(status.Message, "failed to create typed patch object")
}

// resource is how the API server calls a kind of objects.
type resource struct {
	Name       string
	Kind       string
	Namespaced bool
}

type applier struct {
	api *kubeapi.Client
	// kinds has what is served, by API version.
	kinds map[string][]resource
}

func (a *applier) apply(ctx context.Context, d Document) error {
	// A webhook may take 30 seconds
	// (https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts).
	ctx, cancel := context.WithTimeout(ctx, 35*time.Second)
	defer cancel()
	path, err := a.path(ctx, d)
	if err != nil {
		return err
	}
	return a.api.Apply(ctx, path, manager, d.JSON)
}

// path returns the API path of an object.
func (a *applier) path(ctx context.Context, d Document) (string, error) {
	root := "/apis/" + d.APIVersion
	if !strings.Contains(d.APIVersion, "/") {
		root = "/api/" + d.APIVersion
	}
	if a.kinds[d.APIVersion] == nil {
		var list struct{ Resources []resource }
		if err := a.api.Get(ctx, root, &list); kubeapi.NotFound(err) {
			return "", fmt.Errorf("the API server does not have %s", d.APIVersion)
		} else if err != nil {
			return "", err
		}
		a.kinds[d.APIVersion] = list.Resources
	}
	for _, r := range a.kinds[d.APIVersion] {
		if r.Kind != d.Kind || strings.Contains(r.Name, "/") { // a subresource
			continue
		}
		if !r.Namespaced {
			return root + "/" + r.Name + "/" + url.PathEscape(d.Name), nil
		}
		namespace := d.Namespace
		if namespace == "" {
			namespace = "default"
		}
		return root + "/namespaces/" + url.PathEscape(namespace) + "/" + r.Name + "/" + url.PathEscape(d.Name), nil
	}
	return "", fmt.Errorf("the API server has no %s in %s", d.Kind, d.APIVersion)
}
