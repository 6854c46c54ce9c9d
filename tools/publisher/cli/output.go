package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// output is a file that appears when there is something to write, whole or not at all. If its
// directory is not writable, that shows before the images are pushed rather than after.
type output struct{ file *renameio.PendingFile }

func newOutput(path string) (*output, error) {
	if path == "" {
		return &output{}, nil
	}
	path = inWorkingDirectory(path)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("--digest-file: %s is not a file", path)
	}
	file, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o644), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return nil, fmt.Errorf("--digest-file: %w", err)
	}
	return &output{file}, nil
}

func (o *output) write(text string) error {
	if o.file == nil {
		return nil
	}
	_, err := o.file.WriteString(text)
	if err == nil {
		err = o.file.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("--digest-file: %w", err)
	}
	return nil
}

// abandon removes what was not written.
func (o *output) abandon() {
	if o.file != nil {
		o.file.Cleanup()
	}
}
