// Command mkdisk makes a file system, ext4, of a tar archive. Its bytes depend on the archive
// alone.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dind-cluster/dind-cluster/image/debroot"
	"github.com/dind-cluster/dind-cluster/internal/repeated"
)

func main() {
	var packages repeated.Strings
	flag.Var(&packages, "deb", "a Debian `package` of e2fsprogs or what it needs; repeat")
	archive := flag.String("tar", "", "tar `archive` of the files")
	free := flag.Int64("free", 0, "free space of the file system in `bytes`")
	out := flag.String("out", "", "image to write")
	flag.Parse()
	if err := run(packages, *archive, *free, *out); err != nil {
		fmt.Fprintf(os.Stderr, "making %s: %v\n", *out, err)
		os.Exit(1)
	}
}

// id is the file system's, and the seed of its directories' hashes. Neither has to be unique:
// nothing looks for them.
const id = "6b1c7d5e-43f0-4c58-9c8e-0f6d2a1b9e37"

func run(packages []string, archive string, free int64, out string) error {
	dir, err := os.MkdirTemp("", "e2fsprogs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	keep := func(path string) bool { return !strings.HasPrefix(path, "usr/share/") }
	if err := debroot.Lay(dir, packages, keep); err != nil {
		return err
	}
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	// The archive has each file's content and half a kilobyte more, the file system up to a block
	// and an inode.
	size := info.Size() + info.Size()/8 + free
	image, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := image.Truncate(size); err != nil {
		return err
	}
	if err := image.Close(); err != nil {
		return err
	}
	// Without a journal, which is for crashes, and with inodes for small files.
	cmd, err := debroot.Program(dir, "usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", archive, "-i", "8192", "-m", "0",
		"-O", "^has_journal", "-U", id, "-E", "hash_seed="+id+",lazy_itable_init=0,nodiscard", out)
	if err != nil {
		return err
	}
	// libarchive converts names to what it takes for the terminal's encoding.
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8", "E2FSPROGS_FAKE_TIME=1", "SOURCE_DATE_EPOCH=1", "MKE2FS_CONFIG="+filepath.Join(dir, "etc/mke2fs.conf"))
	output, err := cmd.CombinedOutput()
	if output = bytes.TrimSpace(output); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, output)
	}
	return nil
}
