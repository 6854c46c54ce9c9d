package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dind-cluster/dind-cluster/api/v1alpha1"
	"github.com/dind-cluster/dind-cluster/cluster/action"
	"github.com/dind-cluster/dind-cluster/cluster/manifest"
	"github.com/dind-cluster/dind-cluster/cluster/paths"
)

// extra is what a user wants in a cluster besides the cluster itself. Unless the cluster is to wait for it, it comes after.
type extra struct {
	// what is a value of v1alpha1.Start.WaitFor.
	what string
	name string
	run  func(context.Context) (string, error)
}

// extras returns what there is, in the order in which it has to come: pods may need images.
func (c *cluster) extras() []extra {
	var all []extra
	if _, err := os.Stat(paths.Images); err == nil || len(c.settings.Images) > 0 {
		all = append(all, extra{v1alpha1.WaitForImages, "loading images", c.loadImages})
	}
	if _, err := os.Stat(paths.Manifests); err == nil || len(c.settings.Manifests) > 0 {
		all = append(all, extra{v1alpha1.WaitForManifests, "applying manifests", c.applyManifests})
	}
	return all
}

func (c *cluster) waitsFor(e extra) bool { return slices.Contains(c.settings.Start.WaitFor, e.what) }

// planExtras returns the actions for what the cluster is to wait for, which can begin when other actions have ended.
func (c *cluster) planExtras(needs []string) []action.Action {
	var list []action.Action
	for _, e := range c.extras() {
		if c.waitsFor(e) {
			list = append(list, action.Action{Name: e.name, Needs: needs, Run: e.run})
			needs = append(slices.Clone(needs), e.name)
		}
	}
	return list
}

// addExtras does what the cluster did not wait for. What cannot be done is in the log, and in what `runner health` says.
func (c *cluster) addExtras(ctx context.Context) {
	limit := time.Duration(c.settings.Start.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v (environment variable TIMEOUT)", limit))
	defer cancel()
	var failed []string
	for _, e := range c.extras() {
		if c.waitsFor(e) {
			continue
		}
		step := c.log.Step("%s", e.name)
		detail, err := e.run(ctx)
		if err == nil {
			step.Done("%s", detail)
			continue
		}
		step.Fail("")
		c.log.Printf("%s: %v", e.name, err)
		failed = append(failed, fmt.Sprintf("%s: %v", e.name, err))
	}
	if len(failed) > 0 && ctx.Err() != context.Canceled {
		_ = os.WriteFile(paths.Incomplete, []byte(strings.Join(failed, "\n")+"\n"), 0o644)
	}
}

// incomplete returns an error if something that a user wants in the cluster is not there.
func incomplete(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(text)))
}

// loadImages loads the archives that a user has put into this container into all nodes. What a node has already is left
// as it is.
func (c *cluster) loadImages(ctx context.Context) (string, error) {
	var sources []string
	if _, err := os.Stat(paths.Images); err == nil {
		sources = append(sources, paths.Images)
	}
	for _, file := range c.settings.ImageFiles() {
		if _, err := os.Stat(paths.Host + file); err != nil {
			return "", fmt.Errorf("images wants %s of the Docker host, which this container does not have: start it with `docker run --volume %s:%s`", file, file, paths.Host+file)
		}
		sources = append(sources, paths.Host+file)
	}
	detail := strings.Join(sources, ", ")
	if names := c.settings.ImageNames(); len(names) > 0 {
		// The launcher sends them, and tells nobody here.
		c.log.Printf("    %s: of the Docker host; without bazel run, `docker save %[1]s | docker exec -i NAME loader load`", strings.Join(names, " "))
	}
	if len(sources) == 0 {
		return "none in this container", nil
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, "loader", append([]string{"load", "--quiet"}, sources...)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return detail, nil
}

// applyManifests applies a user's manifests, unless a start before has applied just these. What was changed or deleted in the cluster since then is left so.
func (c *cluster) applyManifests(ctx context.Context) (string, error) {
	documents, err := manifest.Read(c.settings)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	for _, d := range documents {
		fmt.Fprintf(hash, "%d %s\n", len(d.JSON), d.JSON)
	}
	sum, file := hex.EncodeToString(hash.Sum(nil)), filepath.Join(paths.State, "manifests.sha256")
	if had, err := os.ReadFile(file); err == nil && c.resumed && strings.TrimSpace(string(had)) == sum {
		return "as at a start before", nil
	}
	if err := manifest.Apply(ctx, c.api, documents); err != nil {
		return "", err
	}
	if err := writeDurably(file, []byte(sum+"\n")); err != nil {
		return "", fmt.Errorf("noting which manifests are applied: %w", err)
	}
	return fmt.Sprintf("%d object(s)", len(documents)), nil
}
