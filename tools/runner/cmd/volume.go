package cmd

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dind-cluster/dind-cluster/cluster/addon"
)

// newVolume is what local-path-provisioner runs in a pod on a node, under the name "volume", to make and to remove the directory
// of a volume. The arguments are its own (createHelperPod in
// https://github.com/rancher/local-path-provisioner/blob/v0.0.30/provisioner.go).
func newVolume() *cobra.Command {
	var path, action string
	cmd := &cobra.Command{
		Use:    "volume",
		Short:  "Makes or removes the directory of a volume (in pods of local-path-provisioner)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			// Nothing else is the provisioner's to remove.
			if dir := filepath.Dir(path); path != filepath.Clean(path) || dir != addon.VolumesDir {
				return fmt.Errorf("%q is not a directory in %s", path, addon.VolumesDir)
			}
			switch action {
			case "create":
				return makeVolume(path)
			case "delete":
				return os.RemoveAll(path)
			}
			return fmt.Errorf("unknown action %q: want create or delete", action)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "path", "p", "", "the directory")
	flags.StringVarP(&action, "action", "a", "", "create or delete")
	flags.StringP("size", "s", "", "how many bytes were asked for; there is no limit")
	flags.StringP("mode", "m", "", "Filesystem; the provisioner refuses Block itself")
	return cmd
}

// makeVolume makes a directory that users of any ID can write to, as pods may run as any. One that is there, of an attempt
// before, is left with what is in it.
func makeVolume(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return os.Chmod(path, 0o777) // whatever the umask
}
