package store

import (
	"io"
	"os"

	"github.com/klauspost/compress/gzip"

	"github.com/dind-cluster/dind-cluster/tools/imager/layer"
)

// open opens a layer's tar archive, whether its blob is compressed or not.
func open(blob string, m *layer.Metadata) (io.ReadCloser, error) {
	f, err := os.Open(blob)
	if err != nil || m.MediaType == layer.MediaTypeUncompressed {
		return f, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}
