// Package stamp tells which commit a checkout is at.
//
// It asks git when images are pushed, not when they are built: so no action of the build depends on the commit, and no
// layer changes with it.
package stamp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// length of a commit in a stamp, in hexadecimal digits.
const length = 12

// timeout for git: it looks at every file of the checkout.
const timeout = 30 * time.Second

var commit = regexp.MustCompile(`^[0-9a-f]{12,64}$`)

// Of returns the first twelve digits of the commit that dir is at, and "-dirty" if anything there, a new file included,
// is not in it.
func Of(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	head, err := git(ctx, dir, "rev-parse", "--verify", "HEAD")
	if err != nil {
		return "", err
	}
	if !commit.MatchString(head) {
		return "", fmt.Errorf("git rev-parse HEAD in %s: got %q, want a commit", dir, head)
	}
	changes, err := git(ctx, dir, "status", "--porcelain", "--untracked-files=normal")
	if err != nil {
		return "", err
	}
	if changes != "" {
		return head[:length] + "-dirty", nil
	}
	return head[:length], nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	// Whoever looks must not take a lock that a person's own git needs.
	cmd := exec.CommandContext(ctx, "git", append([]string{"--no-optional-locks", "-C", dir}, args...)...)
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if text := strings.TrimSpace(stderr.String()); errors.As(err, &exit) && text != "" {
			err = errors.New(text)
		}
		return "", fmt.Errorf("git %s in %s: %w", args[0], dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}
