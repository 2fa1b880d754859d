// Package quota owns the limit of what containers may use of the data partition, in blocks and in files. The rest is
// the system's part.
//
// ext4 counts by project, a number that every file has and that a new file inherits from its directory. Processes with
// CAP_SYS_RESOURCE are counted but not limited: the system's own processes have it; containers do not, and neither have
// their writes through overlayfs. The package never mounts anything and knows no single app. Read Plan first.
package quota

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"resinos/mounts/disk"
)

// Project is a number by which ext4 counts; 0 is for files that belong to none.
type Project uint32

// Containers is the project of everything that containers write. People choose low numbers, so this is a high one.
const Containers Project = 22222

// Directories lists the directories that containers write into, by their names on the data partition: their own files,
// the directories of apps that they bind, and volumes. Directories that only the system uses are not among them.
func Directories() []string { return []string{"containerd", "apps", "volumes"} }

// The names that the kernel and the mount use.
const (
	Option = "prjquota" // mount option that makes the file system keep to the limits
	Module = "quota_v2" // without it the kernel cannot write a file system with project quotas
)

// Amount is an amount of blocks and files: available, allowed or in use.
type Amount struct {
	Space disk.Bytes
	Files int64 // inodes: directories and links count too
}

// The system's part is a fraction of the whole within bounds. A state partition that is set aside and the log on disk
// fit into the upper bound, and nothing useful fits into less than the lower bound. The reserve of ext4 is within this
// part.
const (
	spacePart, leastSpace, mostSpace = 16, 16 * disk.MiB, 256 * disk.MiB
	filesPart, leastFiles, mostFiles = 32, 1024, 16384
)

// Plan computes how much of a file system containers may use.
func Plan(whole Amount) Amount {
	return Amount{
		Space: (whole.Space - part(whole.Space, spacePart, leastSpace, mostSpace)) / unit * unit,
		Files: whole.Files - part(whole.Files, filesPart, leastFiles, mostFiles),
	}
}

// part is what the system keeps; half of a tiny file system.
func part[T disk.Bytes | int64](whole, fraction, least, most T) T {
	return min(max(whole/fraction, least), most, whole/2)
}

// On reports whether a file system that is mounted with these options, as mountinfo lists them, keeps to limits.
func On(options string) bool { return slices.Contains(strings.Split(options, ","), Option) }

// Limit sets what containers may use of the file system that is mounted at target. It writes nothing if the limit is
// set already.
func Limit(target string) (limit Amount, changed bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return Amount{}, false, fmt.Errorf("limit containers: measure %s: %w", target, err)
	}
	limit = Plan(Amount{Space: disk.Bytes(st.Blocks) * disk.Bytes(st.Bsize), Files: int64(st.Files)})
	_, have, err := Observe(target)
	if err != nil || have == limit {
		return limit, false, err
	}
	q := record{spaceHard: uint64(limit.Space / unit), filesHard: uint64(limit.Files), valid: validLimits}
	if err := quotactl(target, setQuota, &q); err != nil {
		return limit, false, fmt.Errorf("limit containers on %s: %w", target, err)
	}
	return limit, true, nil
}

// Observe reads what containers use of the file system that is mounted at target, and may use.
func Observe(target string) (used, limit Amount, err error) {
	var q record
	if err := quotactl(target, getQuota, &q); err != nil {
		return used, limit, fmt.Errorf("read what containers use of %s: %w", target, err)
	}
	used = Amount{Space: disk.Bytes(q.space), Files: int64(q.files)}
	return used, Amount{Space: disk.Bytes(q.spaceHard) * unit, Files: int64(q.filesHard)}, nil
}

// record is struct if_dqblk (Linux, include/uapi/linux/quota.h, as everything below). Its limits of space are in units
// of 1 KiB.
type record struct {
	spaceHard, spaceSoft, space uint64
	filesHard, filesSoft, files uint64
	spaceTime, filesTime        uint64
	valid                       uint32
	_                           uint32
}

const (
	unit        = disk.KiB
	validLimits = 1 | 4 // QIF_BLIMITS, QIF_ILIMITS
	ofProjects  = 2     // PRJQUOTA
	getQuota    = 0x800007
	setQuota    = 0x800008
)

func quotactl(target string, command uintptr, q *record) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), command<<8|ofProjects, uintptr(Containers),
		uintptr(unsafe.Pointer(q)), 0, 0)
	err = dir.Close()
	if errno != 0 {
		err = errors.Join(errno, err)
	}
	return err
}
