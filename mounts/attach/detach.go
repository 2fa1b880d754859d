package attach

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Way is how a mount is detached at shutdown.
type Way string

// The ways. Only what cannot be unmounted is made read-only.
const (
	Unmount Way = "unmount"
	// the root and the file system below it cannot be unmounted while PID 1 runs from them
	ReadOnly Way = "make read-only"
)

// Detach is one step of detaching the mounts.
type Detach struct {
	Way    Way
	Target string
	Type   string
}

// String returns the line of the step in a plan.
func (d Detach) String() string { return fmt.Sprintf("%s %s type %s", d.Way, d.Target, d.Type) }

// memoryOnly lists the file systems that lose nothing when the power goes off and that the shutdown itself still needs.
var memoryOnly = map[string]bool{"proc": true, "sysfs": true, "devtmpfs": true, "cgroup2": true, "devpts": true,
	"rootfs": true}

// DetachOrder plans the shutdown: a mount follows all mounts below it, and among equals those attached later. keep
// lists the mounts that the root depends on, such as the slot: these and the root itself are only made read-only.
func DetachOrder(mounts []Mount, keep ...string) []Detach {
	ordered := slices.Clone(mounts)
	// Mount IDs are reused, so the depth of a path decides; the order in the file decides only between equals.
	slices.Reverse(ordered)
	depth := depths(mounts)
	slices.SortStableFunc(ordered, func(a, b Mount) int { return depth[b.ID] - depth[a.ID] })
	var steps, last []Detach
	for _, m := range ordered {
		switch {
		case m.Target == "/" || slices.Contains(keep, m.Target):
			if !memoryOnly[m.Type] {
				last = append(last, Detach{Way: ReadOnly, Target: m.Target, Type: m.Type})
			}
		case memoryOnly[m.Type] || m.Target == "/run" || m.Target == "/dev" || below(m.Target, "/dev") ||
			below(m.Target, "/sys") || below(m.Target, "/proc"):
			// needed until the end, and holds nothing on a disk
		default:
			steps = append(steps, Detach{Way: Unmount, Target: m.Target, Type: m.Type})
		}
	}
	return append(steps, last...)
}

func below(target, dir string) bool { return strings.HasPrefix(target, dir+"/") }

func depths(mounts []Mount) map[int]int {
	parent := make(map[int]int, len(mounts))
	for _, m := range mounts {
		parent[m.ID] = m.Parent
	}
	depth := make(map[int]int, len(mounts))
	for _, m := range mounts {
		n := 0
		for id, found := m.Parent, true; found && n < len(mounts); n++ {
			id, found = parent[id]
		}
		depth[m.ID] = n
	}
	return depth
}

// Apply carries one step out. A busy target is made read-only, so that nothing can write to it any more, and then
// detached lazily.
func (d Detach) Apply() error {
	if d.Way == ReadOnly {
		return remountReadOnly(d.Target)
	}
	err := unix.Unmount(d.Target, unix.UMOUNT_NOFOLLOW)
	if err == nil || err == unix.EINVAL { // EINVAL: it was detached together with another mount
		return nil
	}
	readOnly := remountReadOnly(d.Target)
	if lazy := unix.Unmount(d.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); lazy != nil {
		return fmt.Errorf("unmount %s: %w", d.Target, lazy)
	}
	if readOnly != nil {
		return fmt.Errorf("unmount %s: %w, and %w", d.Target, err, readOnly)
	}
	return nil
}

func remountReadOnly(target string) error {
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", path.Clean(target), err)
	}
	return nil
}
