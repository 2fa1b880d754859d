// Package keyimport owns the copies of key files and of hooks from resin-boot, where an owner puts them with any
// computer, to the directories where the device looks for them.
//
// A file is copied when it is new or has changed on resin-boot since it was copied last; therefore what somebody has
// changed on the device stays. If it is gone from resin-boot, its copy goes too, unless somebody has changed the copy.
// Where nothing has changed, nothing is written: PID 1 does this before the first container.
//
// The package does not judge what is in the files. Read first: Kind, then Import.
package keyimport

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/plainfile"
	"resinos/net/keyfile"
)

// The directories: on resin-boot, and the one that netd reads.
const (
	From = "/mnt/boot/system-connections"
	To   = "/etc/NetworkManager/system-connections"
)

// Kind is one kind of files that are copied.
type Kind struct {
	Name     string // what the files are, for messages
	From, To string // directories
	Volume   string // where the file system with From is attached
	Mode     fs.FileMode
	Largest  int // bytes
}

// KeyFiles are the files that netd configures links by.
func KeyFiles() Kind {
	return Kind{"key file", From, To, filepath.Dir(From), 0o600, keyfile.MaxSize}
}

// Hooks are the scripts of dispatcher.d and of the directories in it. They become executable, as FAT cannot say so.
func Hooks() []Kind {
	var out []Kind
	for _, sub := range []string{"", "pre-up.d", "pre-down.d"} {
		out = append(out, Kind{"hook", filepath.Join(filepath.Dir(From), "dispatcher.d", sub),
			filepath.Join(filepath.Dir(To), "dispatcher.d", sub), filepath.Dir(From), 0o755, largestHook})
	}
	return out
}

// largestHook has room for a program without a libc.
const largestHook = 16 << 20

// All are the kinds that a device copies.
func All() []Kind { return append([]Kind{KeyFiles()}, Hooks()...) }

// record is the file that holds the digest of each file as it was copied. Readers of key files ignore it by its name.
const record = ".imported"

// mostFiles is how many files are copied at most.
const mostFiles = 500

// Writer writes a file that replaces an earlier one whole, as atomicfile.Write and Unflushed do.
type Writer func(path string, text []byte, mode fs.FileMode) error

// Unflushed writes a file without waiting for the disk, for PID 1, which waits for none. A power cut soon afterwards
// may leave an empty file, which the next Import replaces.
func Unflushed(path string, text []byte, mode fs.FileMode) error {
	beside := filepath.Join(filepath.Dir(path), ".new")
	if err := os.WriteFile(beside, text, mode); err != nil {
		return err
	}
	return errors.Join(os.Chmod(beside, mode), os.Rename(beside, path))
}

// Import copies what has changed, and returns a line for each change. A fault of one file costs no other one. If a
// tmpfs stands in for resin-boot, the files of the owner are unknown and not gone: all copies stay.
func Import(k Kind, write Writer) (changes []string, err error) {
	if standsIn(k.Volume) {
		return nil, nil
	}
	list, err := os.ReadDir(k.From)
	if errors.Is(err, fs.ErrNotExist) {
		list, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("import %ss: %w", k.Name, err)
	}
	before := load(filepath.Join(k.To, record))
	now := map[string]string{}
	var faults []error
	for _, e := range list[:min(len(list), mostFiles)] {
		name := e.Name()
		odd := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' })
		if odd || !e.Type().IsRegular() || keyfile.Ignored(name) {
			continue
		}
		text, err := plainfile.Read(filepath.Join(k.From, name), k.Largest)
		if err == nil && empty(text) {
			continue // a sample: all of its lines are comments
		}
		if err == nil {
			now[name] = digest(text)
			var copied bool
			if copied, err = k.take(write, name, text, before[name] == now[name]); copied {
				changes = append(changes, "copy "+name)
			}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("import %s %s: %w", k.Name, name, err))
			delete(now, name)
			if old, was := before[name]; was {
				now[name] = old // it is tried again, and its copy stays
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[name]; !still && k.removed(filepath.Base(name), before[name]) {
			changes = append(changes, "remove "+name)
		}
	}
	if !maps.Equal(before, now) {
		faults = append(faults, write.save(filepath.Join(k.To, record), now))
	}
	return changes, errors.Join(faults...)
}

// standsIn reports whether a tmpfs is attached at dir.
func standsIn(dir string) bool {
	var system unix.Statfs_t
	if err := unix.Statfs(dir, &system); err != nil || system.Type != unix.TMPFS_MAGIC {
		return false
	}
	var here, above unix.Stat_t
	err := errors.Join(unix.Stat(dir, &here), unix.Stat(filepath.Dir(dir), &above))
	return err == nil && here.Dev != above.Dev
}

// take copies one file, if it is not the one that was copied last or if its copy is gone.
func (k Kind) take(write Writer, name string, text []byte, known bool) (copied bool, err error) {
	target := filepath.Join(k.To, name)
	if st, err := os.Lstat(target); known && err == nil && st.Size() > 0 {
		return false, nil
	}
	if have, err := plainfile.Read(target, k.Largest); err == nil && bytes.Equal(have, text) {
		return false, os.Chmod(target, k.Mode)
	}
	if err := os.MkdirAll(k.To, 0o755); err != nil {
		return false, err
	}
	err = write(target, text, k.Mode)
	return err == nil, err
}

// removed removes a copy that nobody has changed, and reports whether there was one.
func (k Kind) removed(name, copied string) bool {
	target := filepath.Join(k.To, name)
	have, err := plainfile.Read(target, k.Largest)
	return err == nil && digest(have) == copied && os.Remove(target) == nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func empty(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// load returns what was copied. A record that is missing or damaged is empty: then all files are copied once more.
func load(path string) map[string]string {
	out := map[string]string{}
	text, err := plainfile.Read(path, keyfile.MaxSize)
	if err != nil || json.Unmarshal(text, &out) != nil || out == nil {
		return map[string]string{}
	}
	return out
}

func (write Writer) save(path string, copied map[string]string) error {
	text, err := json.Marshal(copied)
	if err != nil {
		return err
	}
	return write(path, append(text, '\n'), 0o600)
}
