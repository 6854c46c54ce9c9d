package elsewhere

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/dind-cluster/dind-cluster/internal/compression"
)

// Difference describes the first difference of two files: of tar archives, compressed or not, the
// entry, else the byte and what is around it.
func Difference(first, second string) (string, error) {
	a, err := entries(first)
	if err != nil {
		return "", err
	}
	b, err := entries(second)
	if err != nil {
		return "", err
	}
	for i := range max(len(a), len(b)) {
		if x, y := at(a, i), at(b, i); x != y {
			return fmt.Sprintf("entry %d:\n  %s\n  %s", i+1, x, y), nil
		}
	}
	return differentByte(first, second)
}

// entries lists a tar archive, a line for each entry with all of its header. It stops where the
// file is no tar archive.
func entries(path string) ([]string, error) {
	r, err := compression.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var lines []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err != nil {
			return lines, nil
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil {
			return lines, nil
		}
		lines = append(lines, fmt.Sprintf("%+v sha256:%x", *h, sum.Sum(nil)))
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}

func differentByte(first, second string) (string, error) {
	a, err := os.ReadFile(first)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(second)
	if err != nil {
		return "", err
	}
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	if n == len(a) && n == len(b) {
		return "none", nil
	}
	around := func(text []byte) []byte {
		return bytes.ToValidUTF8(text[max(0, n-40):min(len(text), n+40)], []byte("�"))
	}
	return fmt.Sprintf("byte %d:\n  %q\n  %q", n, around(a), around(b)), nil
}
