package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// output is a file that appears when there is something to say, whole or not at all. That its folder does not take it
// shows before the images are pushed rather than after.
type output struct {
	path string
	file *os.File
}

func newOutput(path string) (*output, error) {
	if path == "" {
		return &output{}, nil
	}
	path = inWorkingDirectory(path)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("--digest-file: %s is not a file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".digests-")
	if err != nil {
		return nil, fmt.Errorf("--digest-file: %w", err)
	}
	return &output{path: path, file: file}, nil
}

func (o *output) write(text string) error {
	if o.file == nil {
		return nil
	}
	_, err := o.file.WriteString(text)
	err = errors.Join(err, o.file.Chmod(0o644), o.file.Close())
	if err == nil {
		err = os.Rename(o.file.Name(), o.path)
	}
	if err != nil {
		return fmt.Errorf("--digest-file: %w", err)
	}
	o.file = nil
	return nil
}

// abandon removes what was not written.
func (o *output) abandon() {
	if o.file != nil {
		o.file.Close()
		os.Remove(o.file.Name())
	}
}
