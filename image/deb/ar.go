package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	arMagic     = "!<arch>\n"
	arHeaderLen = 60
)

// arReader reads the members of an ar archive as dpkg-deb writes it: short names only, members
// padded to even offsets (deb(5)).
type arReader struct {
	r       io.Reader
	member  *io.LimitedReader
	padding int64
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("not a Debian package: %w", unexpected(err))
	}
	if string(magic) != arMagic {
		return nil, errors.New("not a Debian package: no ar archive magic")
	}
	return &arReader{r: r}, nil
}

// next skips what is left of the current member and returns the name of the
// following one; io.EOF after the last.
func (a *arReader) next() (string, error) {
	if a.member != nil {
		left := a.member.N + a.padding
		n, err := io.CopyN(io.Discard, a.r, left)
		// dpkg-deb pads the last member, too; other writers may not.
		if errors.Is(err, io.EOF) && n >= a.member.N {
			return "", io.EOF
		}
		if err != nil {
			return "", fmt.Errorf("archive member: %w", unexpected(err))
		}
		a.member = nil
	}
	header := make([]byte, arHeaderLen)
	if _, err := io.ReadFull(a.r, header); err != nil {
		if err == io.EOF {
			return "", io.EOF
		}
		return "", fmt.Errorf("archive header: %w", unexpected(err))
	}
	if string(header[58:]) != "`\n" {
		return "", errors.New("archive header is damaged")
	}
	size, err := strconv.ParseInt(strings.TrimRight(string(header[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", fmt.Errorf("archive header has no valid size: %q", header[48:58])
	}
	name := strings.TrimSuffix(strings.TrimRight(string(header[:16]), " "), "/")
	a.member = &io.LimitedReader{R: a.r, N: size}
	a.padding = size % 2
	return name, nil
}

// Read reads from the current member. A file that ends inside the member is an
// error, not an end.
func (a *arReader) Read(p []byte) (int, error) {
	if a.member == nil {
		return 0, io.EOF
	}
	n, err := a.member.Read(p)
	if err == io.EOF && a.member.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
