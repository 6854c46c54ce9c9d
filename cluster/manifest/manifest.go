// Package manifest creates the objects that YAML files describe, as `kubectl apply --server-side` does.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/internal/kubeapi"
)

// manager is the owner of the applied fields in the objects' metadata.managedFields.
const manager = "dind-cluster"

// Document is one object of a file.
type Document = v1alpha1.Object

// Parse returns the objects in a text of YAML documents: see v1alpha1.Objects.
func Parse(source, text string) ([]Document, error) { return v1alpha1.Objects(source, text) }

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
