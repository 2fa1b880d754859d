// Package fsck owns the repair of file systems before they are mounted: when one is repaired, with which program, and
// what happens if that fails.
//
// It reads a few bytes first, so that a sound file system costs nothing; the kernel replays a journal. Its callers
// format only two partitions: state, after its content was set aside, and data, when the owner asks for that. The
// package itself writes only a superblock that a power cut has torn (mounts/ext4). It starts no process itself: its
// callers pass in a Run. Read Repair first.
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

// The paths of the programs in the root.
const (
	E2fsck  = "/usr/sbin/e2fsck"
	FsckFAT = "/usr/sbin/fsck.fat"
)

// Run runs a program to its end. status is its exit status; err reports that it could not be started, was killed, or
// took too long.
type Run func(ctx context.Context, argv []string) (status int, output string, err error)

// Finding is what the first bytes of a file system show.
type Finding struct {
	Why   string    // why it must be repaired; empty: it is sound
	Blank bool      // and it has no intact superblock, or no intact descriptors behind it
	Copy  ext4.Copy // but this is an intact copy, if it is not zero

	// Gently limits the repair to what loses nothing. A caller sets it if more than the superblock was lost and it has
	// a better way than letting a program save what little it can.
	Gently bool
}

// Look examines a partition, which should contain kind: "ext4" or "vfat". The error is that of the disk.
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

// lookFAT reads the bit that Linux and Windows set while the file system is mounted: byte 65 of FAT32's boot sector, 37
// of FAT16's. It also finds files that share blocks, because another computer may have cleared the bit after a power
// cut without a repair.
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
	// A FAT that cannot be followed is left to the kernel: a repair that changes nothing would be repeated at each
	// boot.
	if pair, found, _ := fat.Shared(r); found {
		return Finding{Why: pair.String()}, nil
	}
	return Finding{}, nil
}

// Plan lists the commands that repair what was found, mildest first. Each further command is for when the ones before
// did not succeed.
func Plan(found Finding, kind, node string) [][]string {
	if kind == "vfat" {
		return [][]string{{FsckFAT, "-a", "-w", node}, {FsckFAT, "-y", "-w", node}}
	}
	// -f: e2fsck might not find the fault again from the flags of the superblock.
	rest := []string{"-f"}
	if found.Copy != (ext4.Copy{}) {
		rest = append(rest, "-b", strconv.FormatInt(found.Copy.Block, 10), "-B", strconv.FormatInt(found.Copy.BlockSize,
			10))
	}
	rest = append(rest, node)
	mild, strong := append([]string{E2fsck, "-p"}, rest...), append([]string{E2fsck, "-y"}, rest...)
	if found.Blank && found.Gently {
		return [][]string{mild}
	}
	return [][]string{mild, strong}
}

// ErrBeyond is wrapped by the error for a file system that no program could repair. A program that is missing, was
// killed, or does not know a feature of a newer system, gives another error: it says nothing about the file system.
var ErrBeyond = errors.New("it is beyond repair")

// Repair runs the commands of the plan until one leaves the file system sound. said is a line for the log.
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
	checked := true
	for plan := Plan(found, kind, node); len(plan) > 0; {
		argv := plan[0]
		plan = plan[1:]
		status, output, err := runUntilUnchanged(ctx, run, kind, argv)
		all = append(all, fmt.Sprintf("%s: exit status %d: %s", strings.Join(argv, " "), status,
			summary(output, Whole(kind, status))))
		if err != nil {
			return strings.Join(all, "; "), fmt.Errorf("repair %s: %s: %w", node, argv[0], err)
		}
		if Whole(kind, status) {
			return strings.Join(all, "; "), nil
		}
		// e2fsck(8): 4 means faults that are left; 8 that it could not check, also because there is nothing to check;
		// all other values mean that e2fsck did not look at all.
		checked = status&^7 == 0 || found.Blank && status&^15 == 0
		if found.Copy != (ext4.Copy{}) && whole(node) {
			found.Copy = ext4.Copy{}
			plan = Plan(found, kind, node)
		}
	}
	if !checked {
		return strings.Join(all, "; "), fmt.Errorf("repair %s: the program did not check it (%s)", node,
			all[len(all)-1])
	}
	return strings.Join(all, "; "), fmt.Errorf("repair %s: %w (%s)", node, ErrBeyond, all[len(all)-1])
}

// whole reports whether there is an intact first superblock again. e2fsck 1.47.2 writes the superblock from the copy
// when it has replayed the journal, and then begins again with the copy. The kernel writes the copy only when the file
// system grows while it is attached. Such a copy still asks for a replay of the journal, and e2fsck gives up ("unable
// to set superblock flags", 12). A second run without the copy continues from the new superblock.
func whole(node string) bool {
	f, err := os.Open(node)
	if err != nil {
		return false
	}
	defer f.Close() // nothing was written
	_, err = ext4.Read(f)
	return err == nil
}

// restore repairs the superblock from its copy.
func restore(node string, c ext4.Copy) (said string, groups bool, err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", false, err
	}
	defer f.Close() // Restore has synced
	return ext4.Restore(f, c)
}

// runUntilUnchanged repeats a command of fsck.fat while it changes something: the repair of one file can break another.
// For example it frees the blocks of another file that an empty file refers to, and only the next run notices
// (dosfstools 4.2).
func runUntilUnchanged(ctx context.Context, run Run, kind string,
	argv []string) (status int, output string, err error) {
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

// Whole reports whether an exit status means that the file system is sound: e2fsck(8) adds 1 for corrected errors, and
// 2 for a reboot that is needed if it was mounted, which it is not; fsck.fat(8) has only 1.
func Whole(kind string, status int) bool {
	if kind == "vfat" {
		return status == 0 || status == 1
	}
	return status&^3 == 0
}

// summary returns the line of the output that matters: the summary at the end, or the first complaint after the line
// with the version.
func summary(output string, whole bool) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if whole {
		return strings.TrimSpace(lines[len(lines)-1])
	}
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "e2fsck 1.") &&
			!strings.HasPrefix(line, "fsck.fat ") {
			return line
		}
	}
	return ""
}
