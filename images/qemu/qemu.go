// Package qemu owns running a disk image in QEMU: the command line, the serial console, the monitor (QMP) and the life
// of the process.
//
// It never builds or changes an image itself and never reads a board file: the caller passes a boards.Board. Nothing
// that it starts outlives the program that started it. Read Options and Plan first, then Guest.
package qemu

import (
	"log/slog"

	"resinos/bsp/boards"
)

// Options choose the image and the emulated device. The zero value of every field except Board is useful.
type Options struct {
	Board    boards.Board
	Firmware []FirmwareFile // what the board starts from: see Firmware
	Image    string         // the disk that the board boots from
	Format   string         // of the image: raw (also the empty string) or qcow2
	Overlay  string         // if set: writes go to this new qcow2 file over Image, which does not change
	Snapshot bool           // writes are lost when QEMU ends; Image does not change
	// if set: every write to Image, which must be raw, is also recorded in this new file (disklog.go)
	WriteLog string
	Faults   []Fault // of Image, or of the overlay
	Disks    []Disk  // further disks, in order
	Kernel   *Kernel // if set: boots this kernel without bootloader
	Memory   int     // in MiB; 0 means DefaultMemory
	CPUs     int     // 0 means 1
	// if set: instructions are counted (Monitor.Instructions), and each takes 2^Shift ns of the guest's time
	Shift     int
	Network   Network
	Devices   []string     // further -device values, beside those of the board
	Arguments []string     // further arguments, put last
	NoReboot  bool         // QEMU ends when the guest reboots
	Log       *slog.Logger // may be nil
}

// Defaults of Options.
const (
	DefaultMemory = 512   // MiB
	GuestSSH      = 22222 // the port on which the device's sshd listens
)

// A Disk is a further disk.
type Disk struct {
	Path     string
	Format   string // raw (also the empty string) or qcow2
	ReadOnly bool
	Snapshot bool
}

// A Fault is an error of each access of a kind to one sector of the disk; the medium is not touched.
type Fault struct {
	Write   bool  // else reads fail
	Sector  int64 // of 512 bytes
	Once    bool  // only the first access fails
	NoSpace bool  // the disk has no space left (ENOSPC, as of a thin volume), instead of an input/output error
}

// Kernel is a kernel that QEMU loads itself.
type Kernel struct {
	Image, Initramfs, CommandLine string
	ByFirmware                    bool // the board's firmware starts it; else nothing runs before it
}

// Network connects the guest's one link: to Tap if it is set, else to QEMU's user network.
type Network struct {
	Tap     string // name of an existing tap link
	MAC     string // hardware address of the guest's link; empty means DefaultMAC
	SSHPort int    // port of the host's loopback that is forwarded to the guest's ssh; 0: none (see FreePort)
	None    bool   // the guest has no link
}

// DefaultMAC is the hardware address of the guest's link.
const DefaultMAC = "52:54:00:12:34:56"

// A FirmwareFile is one firmware file on this host; Kind is that of boards.QemuFirmware.
type FirmwareFile struct {
	Kind, Path string
}
