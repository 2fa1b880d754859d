// Package bootfiles owns the files of the boot partition that belong to a version of the system: the bootloader, its
// script, and what describes the version. The root of a version has them in Source, beside the list of their sums.
//
//	copy aside --flush--> read back --one sector: the entry of the name--> old name, new content
//
// The bootloader reads a file by its name, so it finds the old content or the new one, whole, at every moment. One file
// follows the other in a fixed order: the bootloader before its script, and the list of all of them last. Each version
// has to start with the files of the one before, and its files have to start that one.
//
// The package never touches the owner's files, and writes no file that has the right content already. Read Plan, then
// Install.
package bootfiles

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
	"resinos/mounts/fingerprint"
	"resinos/mounts/packed"
	"resinos/mounts/plainfile"
)

// Source is where the root has the files of its version: beside the packed updater, the only program that reads them.
const Source = packed.Directory + "/tools/boot"

// Target is where the boot partition is attached.
const Target = "/mnt/boot"

// mostFile bounds what is read of a file, and spare is what stays free on the partition, for the owner's files.
const (
	mostFile = 16 << 20
	spare    = 128 << 10
)

// Step is one change of the boot partition.
type Step struct {
	Path   string // below the boot partition
	Remove bool   // the version has no such file any more; otherwise its content is replaced
}

// Plan compares the list of a version with what is there. was is the list that the partition has, which may be damaged
// or missing; sum returns that of a file, and false if there is none.
func Plan(want, was []fingerprint.Line, sum func(path string) (fingerprint.Sum, bool)) (steps []Step) {
	boot, _ := fingerprint.Find("boot") // of a table in that package
	listed := make(map[string]bool)
	for _, l := range want {
		listed[strings.ToLower(l.Path)] = true
		if now, found := sum(l.Path); !boot.Leaves(l.Path) && (!found || now != l.Sum) {
			steps = append(steps, Step{Path: l.Path})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(rank(a.Path)-rank(b.Path), strings.Compare(a.Path, b.Path))
	})
	for _, l := range was {
		if boot.Leaves(l.Path) || listed[strings.ToLower(l.Path)] {
			continue
		}
		if now, found := sum(l.Path); found && now == l.Sum { // the owner has not put another one there
			steps = append(steps, Step{Path: l.Path, Remove: true})
		}
	}
	return steps
}

// rank orders the files: the bootloader comes before its script, and what no bootloader reads comes after both.
func rank(name string) int {
	switch ext := strings.ToLower(path.Ext(name)); {
	case ext == ".efi" || ext == ".bin" || ext == ".img" || ext == ".itb" || ext == ".elf" || ext == ".dat":
		return 0
	case ext == ".dtb" || ext == ".dtbo":
		return 1
	case ext == ".cfg" || ext == ".scr" || ext == ".txt" || ext == ".conf":
		return 2
	}
	return 3
}

// Install brings the boot partition to the files of a version, and returns what it changed. It ends at the first fault:
// all files are whole then, and another Install goes on.
func Install(source, target string) (done []Step, err error) {
	return installTo(atomicfile.Disk{}, source, target)
}

func installTo(sys atomicfile.System, source, target string) (done []Step, err error) {
	text, err := plainfile.Read(filepath.Join(source, fingerprint.Name), mostFile)
	if err != nil {
		return nil, fmt.Errorf("install boot files: %w", err)
	}
	want, err := fingerprint.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("install boot files: %s: %w", source, err)
	}
	there, err := plainfile.Read(filepath.Join(target, fingerprint.Name), mostFile)
	if err != nil {
		there = nil // it was lost: nothing is removed then
	}
	was, err := fingerprint.Parse(there)
	if err != nil {
		was = nil // it is damaged: the same
	}
	steps := Plan(want, was, func(name string) (fingerprint.Sum, bool) { return sumOf(filepath.Join(target, name)) })
	contents, err := load(source, want, steps)
	if err != nil {
		return nil, fmt.Errorf("install boot files: %w", err)
	}
	if !bytes.Equal(there, text) {
		steps = append(steps, Step{Path: fingerprint.Name})
		contents[fingerprint.Name] = text
	}
	for _, s := range steps {
		if err := apply(sys, target, s, contents[s.Path]); err != nil {
			return done, fmt.Errorf("install boot files: %w", err)
		}
		done = append(done, s)
	}
	return done, nil
}

// load reads what is to be written, and finds damage before anything is changed.
func load(source string, want []fingerprint.Line, steps []Step) (map[string][]byte, error) {
	sums := make(map[string]fingerprint.Sum)
	for _, l := range want {
		sums[l.Path] = l.Sum
	}
	contents := make(map[string][]byte)
	var faults []error
	for _, s := range steps {
		if s.Remove {
			continue
		}
		content, err := plainfile.Read(filepath.Join(source, s.Path), mostFile)
		if err == nil {
			if sum, _ := fingerprint.Of(bytes.NewReader(content)); sum != sums[s.Path] { // a buffer has no read errors
				err = fmt.Errorf("%s: it is not what its list says", filepath.Join(source, s.Path))
			}
		}
		faults, contents[s.Path] = append(faults, err), content
	}
	return contents, errors.Join(faults...)
}

func sumOf(name string) (sum fingerprint.Sum, found bool) {
	content, err := plainfile.Read(name, mostFile)
	if err != nil {
		return sum, false
	}
	sum, err = fingerprint.Of(bytes.NewReader(content))
	return sum, err == nil
}

func apply(sys atomicfile.System, target string, s Step, content []byte) error {
	name := filepath.Join(target, s.Path)
	if s.Remove {
		return errors.Join(sys.Remove(name), sys.SyncDir(filepath.Dir(name)))
	}
	if err := room(target, int64(len(content))); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteTo(checked{sys}, name, content, 0o644)
}

// room: the old content stays until the new one has its name.
func room(target string, size int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", target, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < size+spare {
		return fmt.Errorf("%d bytes are free and %d are needed: remove files from the boot partition: %w", free,
			size+spare, unix.ENOSPC)
	}
	return nil
}

// checked reads back what was written aside, from the disk, before it gets its name.
type checked struct{ atomicfile.System }

// Create implements atomicfile.System.
func (c checked) Create(name string, content []byte, mode fs.FileMode) error {
	if err := c.System.Create(name, content, mode); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	// Advice: without it what is read back may come from memory.
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	got := make([]byte, len(content)+1)
	if n, _ := f.ReadAt(got, 0); !bytes.Equal(got[:n], content) { // an error is a short read
		return fmt.Errorf("read back %s: it is not what was written", name)
	}
	return nil
}
