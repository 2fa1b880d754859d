// Package quota owns what containers may take of the data partition, in blocks and in files: the rest is the system's.
//
// ext4 counts by project, a number that every file carries and that a new one has from its folder. Who has CAP_SYS_RESOURCE is counted and
// not stopped: the system's own processes are, containers are not, nor is what they write through overlayfs. It never mounts
// anything and knows no single app. Read Plan first.
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

// Project is a number by which ext4 counts; 0 is what belongs to none.
type Project uint32

// Containers is the project of all that containers write. Low numbers are those that people choose.
const Containers Project = 22222

// Folders are what containers write into, by their names on the data partition. What is the system's alone is not among them, nor are the
// apps' files, which no container sees yet.
func Folders() []string { return []string{"containerd"} }

// What the kernel and the mount call it.
const (
	Option = "prjquota" // has the mount keep to limits
	Module = "quota_v2" // without it the kernel cannot write a file system that counts
)

// Amount is how much there is, may be, or is in use.
type Amount struct {
	Space disk.Bytes
	Files int64 // inodes: folders and links count too
}

// The system's part is a fraction of the whole, within bounds: the log on disk and a state that is set aside fit into the most,
// and nothing useful fits into less than the least. ext4's own reserve lies within it.
const (
	spacePart, leastSpace, mostSpace = 16, 16 * disk.MiB, 256 * disk.MiB
	filesPart, leastFiles, mostFiles = 32, 1024, 16384
)

// Plan says how much of a file system containers may take.
func Plan(whole Amount) Amount {
	return Amount{
		Space: (whole.Space - part(whole.Space, spacePart, leastSpace, mostSpace)) / unit * unit,
		Files: whole.Files - part(whole.Files, filesPart, leastFiles, mostFiles),
	}
}

// part is what the system keeps; of what is tiny, half.
func part[T disk.Bytes | int64](whole, fraction, least, most T) T {
	return min(max(whole/fraction, least), most, whole/2)
}

// On reports whether a mount with these options of its file system, as mountinfo has them, keeps to limits.
func On(options string) bool { return slices.Contains(strings.Split(options, ","), Option) }

// Limit sets what containers may take of the file system that is mounted at target. It writes nothing if that is in force already.
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

// record is struct if_dqblk (Linux, include/uapi/linux/quota.h, as all that follows). Its limits of space are in units of 1 KiB.
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
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, dir.Fd(), command<<8|ofProjects, uintptr(Containers), uintptr(unsafe.Pointer(q)), 0, 0)
	err = dir.Close()
	if errno != 0 {
		err = errors.Join(errno, err)
	}
	return err
}
