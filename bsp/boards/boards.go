// Package boards owns the boards: one TOML file for each, embedded beside its package lock.
//
// It never fetches a package and knows no kernel or bootloader by itself. Read Board first.
package boards

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"resinos/bsp/bootvars"
	"resinos/bsp/hardware"
	"resinos/mounts/disk"
)

// A Board is the description of one hardware model. Paths inside packages have no leading slash.
type Board struct {
	Name        string            `toml:"name"`
	Description string            `toml:"description"`
	Arch        string            `toml:"arch"`        // Go's name: amd64, arm64
	DebianArch  string            `toml:"debian-arch"` // Debian's name
	Suite       string            `toml:"suite"`
	Components  []string          `toml:"components"`
	Kernel      Kernel            `toml:"kernel"`
	Bootloader  Bootloader        `toml:"bootloader"`
	Userland    Userland          `toml:"userland"`
	Firmware    Firmware          `toml:"firmware"`
	Initramfs   Initramfs         `toml:"initramfs"`
	Modules     Modules           `toml:"modules"`
	Watchdog    Watchdog          `toml:"watchdog"`
	Hardware    hardware.Hardware `toml:"hardware"`
	Console     Console           `toml:"console"`
	Disk        Disk              `toml:"disk"`
	Qemu        Qemu              `toml:"qemu"`
}

// Kernel names the source of the kernel. Package may be a metapackage; the lock contains the package that it stands
// for.
type Kernel struct {
	Package string `toml:"package"`
	Image   string `toml:"image"` // glob of the kernel image in the package
	// file names of device trees in the package; empty if the firmware provides one
	DeviceTrees []string `toml:"device-trees"`
	Arguments   []string `toml:"arguments"` // words of the command line that only this board's kernel needs

	// the least with which a device boots and starts a container, measured; with less the bootloader prints a warning
	Memory disk.Bytes `toml:"memory"`
}

// Bootloader lists the files of the bootloader on resin-boot. Package may be empty if the firmware is the bootloader.
type Bootloader struct {
	Kind    bootvars.Bootloader `toml:"kind"`
	Package string              `toml:"package"`
	Files   []File              `toml:"files"`
	// U-Boot's commands before its prompt, which development images offer: they start the watchdog; empty: no prompt
	Prompt string `toml:"prompt"`
}

// A File is copied from Source in a package to Target on resin-boot.
type File struct {
	Source string `toml:"source"`
	Target string `toml:"target"`
}

// Userland names the packages from which the root takes files.
type Userland struct {
	Packages []string `toml:"packages"`
}

// Firmware names packages with device firmware and the patterns below usr/lib/firmware that the root takes.
type Firmware struct {
	Packages []string `toml:"packages"`
	Include  []string `toml:"include"`
}

// Initramfs lists the modules that stage 1 loads, in this order.
type Initramfs struct {
	Modules []string `toml:"modules"`
}

// Modules selects the modules of the root: patterns of paths below kernel/, without .ko; ** spans directories. The
// modules that a selected one depends on are added, even if they are excluded.
type Modules struct {
	Include []string `toml:"include"`
	Exclude []string `toml:"exclude"`
	Strip   []string `toml:"strip"` // what is removed from each module file: see modinfo.Strip
	// Plain are patterns of the modules of the root that stay uncompressed, because every boot loads them. All others
	// are compressed with xz, which the kernel must be able to read (CONFIG_MODULE_DECOMPRESS). Empty: none is
	// compressed.
	Plain []string `toml:"plain"`
}

// Watchdog names the module of the board's watchdog, empty if it is built in.
type Watchdog struct {
	Module string `toml:"module"`
}

// Console lists the kernel's console= values; the last one becomes /dev/console.
type Console struct {
	Devices []string `toml:"devices"`
}

// Disk is the disk's partition table.
type Disk struct {
	Table      string      `toml:"table"` // "gpt" or "mbr"
	Partitions []Partition `toml:"partitions"`
}

// A Partition is one row of the partition table, in order.
type Partition struct {
	Label string     `toml:"label"`
	Size  disk.Bytes `toml:"size"`
}

// Qemu describes how QEMU emulates the board; an empty System means that it cannot.
type Qemu struct {
	System   string         `toml:"system"` // the program
	Machine  string         `toml:"machine"`
	CPU      string         `toml:"cpu"`
	Package  string         `toml:"package"` // contains the firmware files
	Firmware []QemuFirmware `toml:"firmware"`
	Disk     string         `toml:"disk"`    // device model of a disk
	Network  string         `toml:"network"` // device model of a link
	Devices  []string       `toml:"devices"` // further device models
}

// QemuFirmware is a firmware file: Kind is "bios", "pflash" (read-only) or "pflash-vars" (a private writable copy).
type QemuFirmware struct {
	Kind string `toml:"kind"`
	File string `toml:"file"`

	// Environment changes U-Boot's default environment in the file (bsp/ubootenv).
	Environment map[string]string `toml:"environment"`
}

//go:embed *.toml *.lock
var files embed.FS

// Packages lists every package that the board needs, each once: kernel, bootloader, userland, device firmware, QEMU
// firmware.
func (b Board) Packages() []string {
	all := []string{b.Kernel.Package, b.Bootloader.Package}
	all = append(all, b.Userland.Packages...)
	all = append(all, b.Firmware.Packages...)
	all = append(all, b.Qemu.Package)
	seen := make(map[string]bool, len(all))
	out := all[:0]
	for _, name := range all {
		if name != "" && !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// Names lists the boards in alphabetical order.
func Names() []string {
	entries, err := fs.Glob(files, "*.toml")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for i, name := range entries {
		entries[i] = strings.TrimSuffix(name, ".toml")
	}
	return entries
}

// Load decodes the named board. The error lists every fault of its file, or the boards that exist.
func Load(name string) (Board, error) {
	text, err := files.ReadFile(name + ".toml")
	if err != nil {
		return Board{}, fmt.Errorf("find board %q: have %s", name, strings.Join(Names(), ", "))
	}
	b, err := Parse(Directory+"/"+name+".toml", text)
	if err == nil && b.Name != name {
		err = fmt.Errorf("%s/%s.toml: name is %q, want the name of the file", Directory, name, b.Name)
	}
	return b, err
}

// Directory is the directory of board files and locks, below the top of the source tree.
const Directory = "bsp/boards"

// LockText returns the embedded lock file of the named board; the error wraps fs.ErrNotExist if it has none.
func LockText(name string) ([]byte, error) {
	if strings.ContainsAny(name, "/\\") {
		return nil, errors.New("a board's name has no slash")
	}
	return files.ReadFile(name + ".lock")
}
