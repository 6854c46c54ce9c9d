package kubeapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Log returns the last lines of what a container of a pod has written.
func (c *Client) Log(ctx context.Context, namespace, pod, container string, lines int) (string, error) {
	resp, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/log?container=%s&tailLines=%d", namespace, pod, container, lines), "", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return string(text), err
}
