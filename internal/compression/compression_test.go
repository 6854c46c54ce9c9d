package compression

import (
	"bytes"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const content = "what was compressed\n"

// packed has content in each format. What Go has no compressor for is from xz and bzip2.
func packed(t *testing.T) map[string][]byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{None: []byte(content), Gzip: z.Bytes(), Zstd: e.EncodeAll([]byte(content), nil)}
	for format, text := range map[string]string{
		XZ:    "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQATd2hhdCB3YXMgY29tcHJlc3NlZAoA6HDomzJFFZkAASwU+AptAx+2830BAAAAAARZWg==",
		Bzip2: "QlpoOTFBWSZTWa3u5bUAAAnRgAAQQAAuQtyAIAAigaHo2qEAADdMXFBDph32UfF3JFOFCQre7ltQ",
	} {
		if all[format], err = base64.StdEncoding.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestFormats(t *testing.T) {
	for format, data := range packed(t) {
		if got := Of(data); got != format {
			t.Errorf("%q is taken for %q", format, got)
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != content {
			t.Errorf("%q: got %q, %v", format, got, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%q: %v", format, err)
		}
		if format == None {
			continue
		}
		// One that is cut off is damaged wherever it ends, and never just shorter.
		for n := HeadSize; n < len(data); n++ {
			z, err := NewReader(format, bytes.NewReader(data[:n]))
			if err == nil {
				_, err = io.ReadAll(z)
				z.Close()
			}
			if err == nil {
				t.Errorf("%q, cut off after %d of %d bytes, is read without an error", format, n, len(data))
			}
		}
	}
}

func TestNoFormat(t *testing.T) {
	for _, data := range []string{"", "B", "plain"} {
		if got := Of([]byte(data)); got != None {
			t.Errorf("%q is taken for %s", data, got)
		}
	}
	if _, err := NewReader("lzma", strings.NewReader("")); err == nil || !strings.Contains(err.Error(), `unknown compression "lzma"`) {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("\x1f\x8bno gzip"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

// A decoder that is not closed, or not read to its end, leaves no goroutine.
func TestNoGoroutines(t *testing.T) {
	content := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{}).Read(content)
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	data := w.EncodeAll(content, nil)
	before := runtime.NumGoroutine()
	for range 20 {
		z, err := NewReader(Zstd, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(z, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}
