// Sh becomes one of the two shells that are in its directory. That is busybox, but for an
// environment with variables whose names are no names in a shell, such as data-1: Debian's busybox
// keeps those from the programs that it starts, upstream's hands them on, and so does bash.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		fail(err)
	}
	shell := filepath.Join(filepath.Dir(self), choose(os.Environ()))
	// By its own name: that is how busybox knows what to be, and what messages begin with.
	fail(fmt.Errorf("%s: %w", shell, syscall.Exec(shell, os.Args, os.Environ())))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "sh:", err)
	os.Exit(127)
}

// choose returns the shell for an environment.
func choose(environ []string) string {
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if !identifier(name) {
			return "bash-static"
		}
	}
	return "busybox"
}

// identifier reports whether a shell can have a variable of this name: POSIX, Base Definitions,
// 3.216 Name.
func identifier(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}
