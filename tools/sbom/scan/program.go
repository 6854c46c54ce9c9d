package scan

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"runtime/debug"
)

// programGrowth is what is set aside for a program at once, in bytes.
const programGrowth = 16 << 20

// program looks into an ELF file.
func program(what string, size int64, r io.Reader) (*Program, error) {
	if size > programLimit {
		return nil, fmt.Errorf("%s has %d bytes, more than any known program", what, size)
	}
	// In one piece, since the linker's records are found through a table at the end. As a rule without growing, but an
	// archive that promises more than it has does not get it.
	content := bytes.NewBuffer(make([]byte, 0, min(size+bytes.MinRead, programGrowth)))
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

// goInfo returns nil for what is not made with Go.
func goInfo(content []byte) (*debug.BuildInfo, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		// ELF of a kind that is no Go program for sure: for another processor, or without sections.
		return nil, nil
	}
	if f.Section(".go.buildinfo") == nil {
		return nil, nil
	}
	return buildinfo.Read(bytes.NewReader(content))
}
