package rootfs

import (
	"fmt"
	"io/fs"
	"slices"

	"resinos/images/assemble"
)

// unixBits are set-user-ID, set-group-ID and sticky as a file system has them; a table may say them in octal too.
const unixBits = 0o7000

// shells are what a person could get a prompt from. No production image has one of them.
var shells = []string{"usr/bin/sh", "usr/bin/busybox", "usr/sbin/getty", "usr/bin/dockerd", "etc/shells"}

// secrets are files that only root may read.
var secrets = []string{"etc/shadow"}

// closed returns the faults of a root by which somebody could become root or change what runs: no file gives its caller
// the rights of its owner, only root can write, production has no shell.
func closed(tree *assemble.Tree, variant string) []error {
	var faults []error
	for _, e := range tree.Entries() {
		kind, bits := e.Mode.Type(), e.Mode.Perm()
		switch {
		case e.Mode&(fs.ModeSetuid|fs.ModeSetgid) != 0, e.Mode&unixBits != 0, kind == 0 && e.Mode&fs.ModeSticky != 0:
			faults = append(faults,
				fmt.Errorf("%s has mode %v: no file of a root has set-user-ID, set-group-ID or sticky", e.Path, e.Mode))
		case kind != fs.ModeSymlink && bits&0o022 != 0:
			faults = append(faults, fmt.Errorf("%s has mode %v: only root may write", e.Path, e.Mode))
		case slices.Contains(secrets, e.Path) && bits != 0o600:
			faults = append(faults, fmt.Errorf("%s has mode %v: want 0600, it is secret", e.Path, e.Mode))
		}
		if variant == "production" && slices.Contains(shells, e.Path) {
			faults = append(faults, fmt.Errorf("%s is in a production image, which has no shell", e.Path))
		}
	}
	return faults
}
