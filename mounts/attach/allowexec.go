package attach

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// AllowExec lets the calling thread, and the processes that it starts later, execute files below dir, although
// persistent file systems are attached with noexec. For all others noexec still holds: the thread gets a mount
// namespace of its own. The caller has locked its goroutine to the thread and never unlocks it: the namespace ends with
// the goroutine. It needs root.
func AllowExec(dir string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("allow to execute %s: unshare: %w", dir, err)
	}
	for _, m := range []struct {
		source, target string
		flags          uintptr
	}{
		{"", "/", unix.MS_SLAVE | unix.MS_REC},
		{dir, dir, unix.MS_BIND},
		{"", dir, unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.source, m.target, "", m.flags, ""); err != nil {
			return fmt.Errorf("allow to execute %s: mount: %w", dir, err)
		}
	}
	return nil
}
