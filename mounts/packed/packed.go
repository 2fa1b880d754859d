// Package packed owns the packed programs of the root: programs that a device rarely runs, each with its own libraries
// in a squashfs file that is compressed with xz. The root has NAME.squashfs and the empty directory NAME in Directory;
// the file is attached to the directory for one service only, in the mount namespace of that service, or nowhere, for
// the processes that one process starts. It is freed when the last of these processes ends.
//
// It never decides which programs are packed (images/rootfs does) nor who runs them. Read Attach and Program first.
package packed

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
)

// Directory is where the root has packed programs.
const Directory = "/usr/lib/packed"

// Suffix is what the file of a packed program has behind its name.
const Suffix = ".squashfs"

// Path is the directory in which the files of a packed program appear. name holds letters, digits, "-" and "_" only.
func Path(name string) string { return Directory + "/" + name }

// Attach makes the files of a packed program visible in its directory, in the mount namespace of the calling thread.
// The caller has given this thread a namespace of its own, and needs CAP_SYS_ADMIN.
func Attach(name string) (err error) {
	node, handle, err := attach.Loop(Path(name) + Suffix)
	if err != nil {
		return fmt.Errorf("attach packed program %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, handle.Close()) }() // the mount keeps the loop device
	if err := unix.Mount(node, Path(name), "squashfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("attach packed program %s: mount %s on %s: %w", name, node, Path(name), err)
	}
	return nil
}

// Run becomes a program in the file of this name, as somebody types it: it attaches the files for this process alone,
// if a service has not done so. It returns only when that fails.
func Run(name, program string, args, environ []string) error {
	program = Path(name) + "/" + program
	if _, err := os.Stat(program); err != nil {
		runtime.LockOSThread() // never unlocked: the thread becomes the program
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("run packed program %s: make mount namespace: %w", name, err)
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("run packed program %s: leave the mounts of others: %w", name, err)
		}
		if err := Attach(name); err != nil {
			return err
		}
	}
	return fmt.Errorf("execute %s: %w", program, unix.Exec(program, append([]string{program}, args...), environ))
}
