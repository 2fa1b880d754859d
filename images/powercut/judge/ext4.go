package judge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"resinos/images/powercut/recording"
	"resinos/mounts/ext4"
)

// An Ext4 judges a file system as the device's own start does: a superblock that a cut has torn is restored, the
// journal is played back, then nothing but what a cut may leave (orphans of files that were being deleted) may be left
// to do. After that it reads Files.
type Ext4 struct {
	Partition string
	Files     map[string]string // fact -> path of a file; the fact is the digest of its content
	Texts     map[string]string // fact -> path; the fact is the content itself, without space at the ends
	Read      []Reader          // look further into it
}

// A Reader looks into a file system that lies in a file.
type Reader func(ctx context.Context, file string) (Verdict, error)

// Region is the partition.
func (x Ext4) Region() string { return x.Partition }

// expected are the lines of e2fsck 1.47 that a cut explains, beside those that name a class. Counts in the superblock
// are brought up to date at unmount only.
var expected = []string{"Pass ", "Setting free ", "Setting filetype"}

// lastGroup is said of a file system whose growth the cut has stopped between two transactions of the kernel: the
// bitmap of the group that was the last one then is still to be made. The kernel makes it when it needs it, and e2fsck
// at once.
const lastGroup = "Last group block bitmap uninitialized."

// outdated are further lines, of a file system whose descriptors of groups are those of a copy: what they say of
// bitmaps and numbers is old.
var outdated = []string{"Padding at end of ", "does not match checksum.", "FIXED.", " count wrong",
	" bitmap differences: ", "[QUOTA WARNING]", "Update quota info"}

// Judge checks the file system. Exit codes of e2fsck: 1 is repaired, 2 wants a reboot, 4 and more are faults left.
func (x Ext4) Judge(ctx context.Context, file string) (Verdict, error) {
	restored, err := mendSuper(file)
	if errors.Is(err, ext4.ErrNone) {
		return Verdict{Class: "damaged", Bad: err.Error(), Facts: map[string]string{}}, nil
	}
	if err != nil {
		return Verdict{}, err
	}
	out, code, err := run(ctx, "e2fsck", "-fp", file)
	if err != nil {
		return Verdict{}, err
	}
	var words, faults []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{file + ": ", x.Partition + ": "} {
			line = strings.TrimPrefix(line, prefix)
		}
		switch {
		case line == "", strings.Contains(line, "non-contiguous"): // the summary
		case line == "recovering journal":
			words = append(words, "journal to play back")
		case strings.HasPrefix(line, "Clearing orphaned inode"), strings.HasPrefix(line, "Truncating orphaned inode"):
			words = append(words, "orphans")
		case strings.HasPrefix(line, lastGroup):
			words = append(words, "growing")
		case slices.ContainsFunc(expected, func(p string) bool { return strings.HasPrefix(line, p) }):
		case restored == groupsRestored &&
			slices.ContainsFunc(outdated, func(p string) bool { return strings.Contains(line, p) }):
		default:
			faults = append(faults, line)
		}
	}
	if words = slices.Compact(words); len(words) == 0 {
		words = []string{"clean"}
	}
	if restored != "" {
		words = slices.Insert(words, 0, restored)
	}
	v := Verdict{Class: strings.Join(words, ", "), Facts: map[string]string{}}
	if code > 1 || len(faults) > 0 {
		v.Class, v.Bad = "damaged", fmt.Sprintf("e2fsck ends with %d: %s", code, shorten(strings.Join(faults, "; ")))
		return v, nil
	}
	if code == 1 {
		if again, left, err := run(ctx, "e2fsck", "-fn", file); err != nil || left != 0 {
			return Verdict{Class: "damaged", Bad: "e2fsck leaves something to repair: " + shorten(again)}, err
		}
	}
	if err := x.read(ctx, file, v.Facts); err != nil {
		return v, err
	}
	for _, read := range x.Read {
		more, err := read(ctx, file)
		if err != nil {
			return v, err
		}
		v = v.Add(more)
	}
	return v, nil
}

// What mendSuper has done.
const superRestored, groupsRestored = "superblock restored", "superblock and group descriptors restored"

// mendSuper does to a file system without a whole superblock what the device does before it lets e2fsck have it, and
// says what that was. The error wraps ext4.ErrNone if there was something to do and it could not be done.
func mendSuper(file string) (restored string, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close() // of a scratch file nothing has to last
	if _, err = ext4.Read(f); !errors.Is(err, ext4.ErrNone) {
		return "", err
	}
	c, found := ext4.FindCopy(f)
	if !found {
		return "", fmt.Errorf("%w, and no copy of it", err)
	}
	_, groups, err := ext4.Restore(f, c)
	if groups {
		return groupsRestored, err
	}
	return superRestored, err
}

// read takes the files out.
func (x Ext4) read(ctx context.Context, file string, facts map[string]string) error {
	paths := map[string]string{}
	for fact, path := range x.Files {
		paths[fact] = path
	}
	for fact, path := range x.Texts {
		paths[fact] = path
	}
	contents, err := readExt4(ctx, file, paths)
	if err != nil {
		return err
	}
	for fact, content := range contents {
		if _, text := x.Texts[fact]; text {
			facts[fact] = string(bytes.TrimSpace(content))
		} else {
			facts[fact] = recording.Digest(content)
		}
	}
	return nil
}

// readExt4 reads files of an ext4 by the names that they are given. What is not there is left out.
func readExt4(ctx context.Context, file string, paths map[string]string) (map[string][]byte, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(file), "files-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // scratch files; nothing is lost if they stay
	var script strings.Builder
	names := map[string]string{}
	for name, path := range paths {
		names[name] = filepath.Join(dir, fmt.Sprint(len(names)))
		fmt.Fprintf(&script, "dump \"%s\" \"%s\"\n", path, names[name])
	}
	commands := filepath.Join(dir, "commands")
	if err := os.WriteFile(commands, []byte(script.String()), 0o600); err != nil {
		return nil, err
	}
	if out, code, err := run(ctx, "debugfs", "-f", commands, file); err != nil || code != 0 {
		return nil, errors.Join(fmt.Errorf("debugfs ends with %d: %s", code, shorten(out)), err)
	}
	contents := map[string][]byte{}
	for name, dumped := range names {
		content, err := os.ReadFile(dumped)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		contents[name] = content
	}
	return contents, nil
}

// debianPackage names the package of Debian that brings a program.
var debianPackage = map[string]string{"e2fsck": "e2fsprogs", "debugfs": "e2fsprogs", "fsck.vfat": "dosfstools"}

// run runs a program and returns what it said and its exit code. The error is for a program that did not run to its
// end.
func run(ctx context.Context, name string, args ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "E2FSCK_CONFIG=/dev/null")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", 0, fmt.Errorf("find %s: %w; install it with: apt-get install %s", name, err, debianPackage[name])
	case errors.As(err, &exit) && exit.Exited():
		return string(out), exit.ExitCode(), nil
	case err != nil:
		return "", 0, fmt.Errorf("run %s: %w: %s", name, err, shorten(string(out)))
	}
	return string(out), 0, nil
}

// shorten keeps a text short enough for one line of a report.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}

// size reads how many bytes the file system claims, from its superblock: blocks at 4 and 0x150, the power of two of
// their size, less ten, at 0x18 (Documentation/filesystems/ext4/super.rst).
func size(partition string) Reader {
	return func(_ context.Context, file string) (Verdict, error) {
		f, err := os.Open(file)
		if err != nil {
			return Verdict{}, err
		}
		defer f.Close() // read only: closing cannot lose anything
		super := make([]byte, 1024)
		if _, err := f.ReadAt(super, 1024); err != nil {
			return Verdict{}, err
		}
		word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(super[at:])) }
		size := (word(0x150)<<32 | word(4)) << (10 + word(0x18))
		return Verdict{Facts: map[string]string{factFileSystem(partition): fmt.Sprint(size)}}, nil
	}
}
