package qemu

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/deb"
	"resinos/bsp/lock"
	"resinos/bsp/ubootenv"
	"resinos/mounts/atomicfile"
)

// Firmware returns the files from which QEMU starts the board, from the package that the board's lock pins. It fetches
// and unpacks the package into the cache if necessary; report may be nil.
func Firmware(ctx context.Context, board boards.Board, cache string,
	report func(apt.Progress)) ([]FirmwareFile, error) {
	if len(board.Qemu.Firmware) == 0 {
		return nil, nil
	}
	pins, err := lock.Load(board.Name)
	if err != nil {
		return nil, err
	}
	pin, found := pins.Find(board.Qemu.Package)
	if !found {
		return nil, fmt.Errorf("find package %s in %s%s", board.Qemu.Package, lock.File(board.Name),
			lock.Hint(board.Name))
	}
	dir := filepath.Join(cache, "firmware", key(pin.SHA256, board.Qemu.Firmware))
	files, absent := unpacked(board, dir)
	if len(absent) == 0 {
		return files, nil
	}
	config := apt.For(board, cache)
	config.Report = report
	packages, err := apt.Fetch(ctx, config, []lock.Package{pin})
	if err != nil {
		return nil, err
	}
	return files, unpack(packages[pin.Name], dir, absent, board.Qemu.Firmware)
}

// key names the directory of a package's files by its digest, and by what is changed in the files.
func key(digest string, files []boards.QemuFirmware) string {
	var changes strings.Builder
	for _, f := range files {
		if len(f.Environment) > 0 {
			fmt.Fprintf(&changes, "%s %q\n", f.File, f.Environment) // fmt sorts maps
		}
	}
	if changes.Len() == 0 {
		return digest
	}
	return fmt.Sprintf("%s-%x", digest, sha256.Sum256([]byte(changes.String())))
}

// unpacked lists the paths of the board's firmware files, and by the name in the package those that do not exist yet.
func unpacked(board boards.Board, dir string) (files []FirmwareFile, absent map[string]string) {
	absent = map[string]string{}
	for _, f := range board.Qemu.Firmware {
		file := filepath.Join(dir, path.Base(f.File))
		files = append(files, FirmwareFile{Kind: f.Kind, Path: file})
		if _, err := os.Stat(file); err != nil {
			absent[f.File] = file
		}
	}
	return files, absent
}

// unpack writes each of the absent files completely or not at all.
func unpack(pkg, dir string, absent map[string]string, firmware []boards.QemuFirmware) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create firmware cache: %w", err)
	}
	want := func(name string) bool { return absent[name] != "" }
	err := deb.Extract(pkg, want, func(e deb.Entry, r io.Reader) error {
		if !e.Mode.IsRegular() {
			return fmt.Errorf("unpack %s: it is not a regular file", e.Name)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", e.Name, err)
		}
		for _, f := range firmware {
			if f.File == e.Name && len(f.Environment) > 0 {
				if data, err = ubootenv.Change(data, f.Environment); err != nil {
					return fmt.Errorf("unpack %s: %w", e.Name, err)
				}
			}
		}
		file := absent[e.Name]
		delete(absent, e.Name)
		return atomicfile.Write(file, data, 0o644)
	})
	for name := range absent {
		err = errors.Join(err, fmt.Errorf("unpack %s: %s is not in it", pkg, name))
	}
	return err
}
