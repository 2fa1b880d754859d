// Package fsck owns when a file system is repaired before it is mounted, with what, and what becomes of one that cannot be.
//
// It looks at a few bytes first, so that a sound file system costs nothing: a journal is replayed by the kernel. Its callers
// format nothing but the state partition, when its content has been put aside, and data, when its owner asks for that. What it writes itself is a superblock that a
// cut has torn (mounts/ext4). It forks nothing itself: Run is given to it. Read Repair first.
package fsck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"resinos/mounts/ext4"
	"resinos/mounts/fat"
)

// The programs, where the root has them.
const (
	E2fsck  = "/usr/sbin/e2fsck"
	FsckFAT = "/usr/sbin/fsck.fat"
)

// Run runs a program to its end. status is its exit code; err is for one that could not be run, was killed, or took too long.
type Run func(ctx context.Context, argv []string) (status int, output string, err error)

// Finding is what the first bytes of a file system say.
type Finding struct {
	Why   string    // it is to be repaired; empty: it is sound
	Blank bool      // and there is no whole superblock to begin with, or nothing behind it
	Copy  ext4.Copy // but a copy of it, if this is not zero

	// The caller has better to do than to have a program make what it can of little: where more than the superblock was lost, only what
	// loses nothing is tried.
	Gently bool
}

// Look judges what lies on a partition by the file system that belongs there: "ext4" or "vfat". The error is the disk's.
func Look(r io.ReaderAt, kind string) (Finding, error) {
	if kind == "vfat" {
		return lookFAT(r)
	}
	s, err := ext4.Read(r)
	switch {
	case errors.Is(err, ext4.ErrNone):
		found := Finding{Why: err.Error(), Blank: true}
		found.Copy, _ = ext4.FindCopy(r)
		return found, nil
	case err != nil:
		return Finding{}, err
	case s.Damaged:
		return Finding{Why: "the kernel found a fault in it"}, nil
	}
	return Finding{}, nil
}

// lookFAT finds the bit that Linux and Windows set while the file system is mounted: byte 65 of FAT32's boot sector, 37 of FAT16's. A computer
// that the disk was put in after a power cut may have taken the bit away without a repair: files that share their blocks are found too.
func lookFAT(r io.ReaderAt) (Finding, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return Finding{}, fmt.Errorf("read boot sector: %w", err)
	}
	at := 37
	if b[22] == 0 && b[23] == 0 { // sectors of a FAT16 table
		at = 65
	}
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return Finding{Why: "the boot sector is damaged", Blank: true}, nil
	case b[at]&1 != 0:
		return Finding{Why: "it was not unmounted"}, nil
	}
	// What cannot be followed is for the kernel to judge: a repair that changes nothing would be made at each boot.
	if pair, found, _ := fat.Shared(r); found {
		return Finding{Why: pair.String()}, nil
	}
	return Finding{}, nil
}

// Plan lists the commands that repair what was found, mildest first: the next one is for when the one before did not do.
func Plan(found Finding, kind, node string) [][]string {
	if kind == "vfat" {
		return [][]string{{FsckFAT, "-a", "-w", node}, {FsckFAT, "-y", "-w", node}}
	}
	// -f: the fault may be none that a look at the superblock's flags would find again.
	rest := []string{"-f"}
	if found.Copy != (ext4.Copy{}) {
		rest = append(rest, "-b", strconv.FormatInt(found.Copy.Block, 10), "-B", strconv.FormatInt(found.Copy.BlockSize, 10))
	}
	rest = append(rest, node)
	mild, strong := append([]string{E2fsck, "-p"}, rest...), append([]string{E2fsck, "-y"}, rest...)
	if found.Blank && found.Gently {
		return [][]string{mild}
	}
	return [][]string{mild, strong}
}

// ErrBeyond is wrapped by the error for a file system that no program could repair. That a program is missing, was killed, or does not
// know what a newer system wrote, is another error: it says nothing of the file system.
var ErrBeyond = errors.New("it is beyond repair")

// Repair runs the commands of the plan for what was found until one leaves the file system whole. said is for the log.
func Repair(ctx context.Context, run Run, found Finding, kind, node string) (said string, err error) {
	var all []string
	if found.Copy != (ext4.Copy{}) {
		how, groups, err := restore(node, found.Copy)
		if err == nil {
			found.Blank, found.Copy = groups, ext4.Copy{}
		} else {
			how = err.Error()
		}
		all = append(all, how)
	}
	judged := true
	for plan := Plan(found, kind, node); len(plan) > 0; {
		argv := plan[0]
		plan = plan[1:]
		status, output, err := untilStill(ctx, run, kind, argv)
		all = append(all, fmt.Sprintf("%s: exit status %d: %s", strings.Join(argv, " "), status, gist(output, Whole(kind, status))))
		if err != nil {
			return strings.Join(all, "; "), fmt.Errorf("repair %s: %s: %w", node, argv[0], err)
		}
		if Whole(kind, status) {
			return strings.Join(all, "; "), nil
		}
		// e2fsck(8): 4 is for faults that are left, 8 for what kept it from judging, also that there is nothing to judge; the rest is
		// for an e2fsck that has not looked at all.
		judged = status&^7 == 0 || found.Blank && status&^15 == 0
		if found.Copy != (ext4.Copy{}) && whole(node) {
			found.Copy = ext4.Copy{}
			plan = Plan(found, kind, node)
		}
	}
	if !judged {
		return strings.Join(all, "; "), fmt.Errorf("repair %s: it cannot be judged (%s)", node, all[len(all)-1])
	}
	return strings.Join(all, "; "), fmt.Errorf("repair %s: %w (%s)", node, ErrBeyond, all[len(all)-1])
}

// whole reports whether there is a first superblock again. e2fsck 1.47.2 writes it from the copy when it has played the journal back, and then
// begins anew with the copy. The kernel writes that one only when the file system grows, while it is attached: it goes on to speak of a journal
// to play back, and e2fsck gives up ("unable to set superblock flags", 12). Without the copy it goes on from there.
func whole(node string) bool {
	f, err := os.Open(node)
	if err != nil {
		return false
	}
	defer f.Close() // only read
	_, err = ext4.Read(f)
	return err == nil
}

// restore mends the superblock with its copy.
func restore(node string, c ext4.Copy) (said string, groups bool, err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", false, err
	}
	defer f.Close() // what counts is on the disk
	return ext4.Restore(f, c)
}

// untilStill runs a command of fsck.fat again as long as it changes something: what it does to one file can break another. Of an empty
// file that leads to another's blocks it frees those, and only the next run sees it (dosfstools 4.2).
func untilStill(ctx context.Context, run Run, kind string, argv []string) (status int, output string, err error) {
	const most = 4
	for range most {
		var said string
		status, said, err = run(ctx, argv)
		output += said
		if kind != "vfat" || status != 1 || err != nil {
			break
		}
	}
	return status, output, err
}

// Whole reports whether an exit code says that the file system is in order: e2fsck(8) adds 1 for errors corrected, 2 for a reboot
// that is wanted if it was mounted, which it is not; fsck.fat(8) knows 1 only.
func Whole(kind string, status int) bool {
	if kind == "vfat" {
		return status == 0 || status == 1
	}
	return status&^3 == 0
}

// gist is the line that matters: the summary at the end, or the first complaint behind the line with the version.
func gist(output string, whole bool) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if whole {
		return strings.TrimSpace(lines[len(lines)-1])
	}
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "e2fsck 1.") && !strings.HasPrefix(line, "fsck.fat ") {
			return line
		}
	}
	return ""
}
