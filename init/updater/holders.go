package updater

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
)

// holder says who keeps a block device from being opened alone: a mount, or another device on top of it.
func holder(proc string, s slotFile) string {
	processes, _ := filepath.Glob(proc + "/[0-9]*") // fails only for a malformed pattern
	for _, dir := range processes {
		text, err := os.ReadFile(dir + "/mountinfo")
		if err != nil {
			continue // it has ended
		}
		mounts, err := attach.ParseMountinfo(string(text))
		if err != nil {
			continue
		}
		for _, m := range mounts {
			if m.Major == s.major && m.Minor == s.minor {
				return fmt.Sprintf("mounted at %s, as %s sees it", m.Target, process(dir))
			}
		}
	}
	above, _ := filepath.Glob(fmt.Sprintf("/sys/dev/block/%d:%d/holders/*", s.major, s.minor)) // the same
	if len(above) > 0 {
		return "held by device " + filepath.Base(above[0])
	}
	if who := opener(proc, s); who != "" {
		return who
	}
	return "by something in the kernel"
}

// opener names a process that has the block device open, besides this one; "" if there is none.
func opener(proc string, s slotFile) string {
	fds, _ := filepath.Glob(proc + "/[0-9]*/fd/*") // the same
	for _, fd := range fds {
		dir := filepath.Dir(filepath.Dir(fd))
		if filepath.Base(dir) == fmt.Sprint(os.Getpid()) {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			continue
		}
		if unix.Major(st.Rdev) == s.major && unix.Minor(st.Rdev) == s.minor {
			return "opened by " + process(dir)
		}
	}
	return ""
}

// process names a process by its directory in /proc.
func process(dir string) string {
	name, _ := os.ReadFile(dir + "/comm") // a process that has ended has a number still
	return strings.TrimSpace(fmt.Sprintf("process %s %s", filepath.Base(dir), strings.TrimSpace(string(name))))
}
