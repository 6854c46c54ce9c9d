package scan

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
)

// programGrowth limits the memory that is allocated for a program at once, in bytes: enough for
// nearly all. An archive may claim a size that it does not have.
const programGrowth = 256 << 20

// buffers are for programs, which are large: a new one for each would make memory several times
// what is in use.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// program reads an ELF file.
func program(what string, size int64, r io.Reader) (*Program, error) {
	if size > programLimit {
		return nil, fmt.Errorf("%s has %d bytes, more than any known program", what, size)
	}
	// In one piece, since the linker's records are found through a table at the end.
	content := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(content)
	content.Reset()
	content.Grow(int(min(size+bytes.MinRead, programGrowth)))
	if n, err := content.ReadFrom(r); err != nil || n < size {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", what, cut(err))
	}
	info, err := goInfo(content.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s is a Go program, but what its linker wrote into it is not understood: %w", what, err)
	}
	return &Program{Go: info}, nil
}

// goInfo returns nil for a program that is not written in Go.
func goInfo(content []byte) (*debug.BuildInfo, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		// ELF of a kind that no Go program is: for another processor, or without sections.
		return nil, nil
	}
	if f.Section(".go.buildinfo") == nil {
		return nil, nil
	}
	return buildinfo.Read(bytes.NewReader(content))
}
