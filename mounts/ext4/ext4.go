// Package ext4 reads and changes parts of an ext4 file system without e2fsprogs: its superblock, and what the kernel
// changes while the file system is mounted.
//
// If the file system is attached, the package never writes to the disk itself: the kernel does, through the journal, so
// that a power cut leaves the old or the new state. If it is not attached, Restore repairs the superblock. Read Super
// first.
package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Super holds fields of a superblock (Linux, Documentation/filesystems/ext4/super.rst).
type Super struct {
	Label     string
	UUID      [16]byte
	BlockSize int64  // bytes
	Blocks    uint64 // of the whole file system
	Reserved  uint64 // of these, only for processes that may exceed limits
	Damaged   bool   // the error flag: the kernel found a fault
	Replay    bool   // it was not unmounted; the journal must be replayed
	Renamable bool   // its UUID can change while it is mounted: the seed of its checksums is stored separately
	Quota     bool   // it has project quotas, and the kernel needs their module
}

// ErrNone reports that there is no ext4, or none with an intact superblock.
var ErrNone = errors.New("no intact ext4 superblock")

// Read reads the first superblock of a file system that begins at offset 0. The error wraps ErrNone if there is none.
func Read(r io.ReaderAt) (Super, error) {
	b := make([]byte, superSize)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return Super{}, fmt.Errorf("read superblock: %w", err)
	}
	s, err := Parse(b)
	if err != nil {
		return s, fmt.Errorf("read superblock: %w", err)
	}
	return s, nil
}

// The bits that we read.
const (
	stateError        = 2
	incompatRecover   = 0x4
	incompat64bit     = 0x80
	incompatSeed      = 0x2000
	roQuota           = 0x100
	roMetadataCsum    = 0x400
	roProject         = 0x2000
	superMagic        = 0xef53
	superAt           = 1024
	superSize         = 1024
	largestBlockShift = 6
)

// Parse decodes the 1024 bytes of a superblock.
func Parse(b []byte) (Super, error) {
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	if len(b) != superSize || u16(b[0x38:]) != superMagic {
		return Super{}, fmt.Errorf("%w: the magic number is missing", ErrNone)
	}
	incompat, readOnly := u32(b[0x60:]), u32(b[0x64:])
	if readOnly&roMetadataCsum != 0 && checksum(b) != u32(b[0x3fc:]) {
		return Super{}, fmt.Errorf("%w: the checksum is wrong", ErrNone)
	}
	shift := u32(b[0x18:])
	s := Super{
		Label: string(bytes.TrimRight(b[0x78:0x88], "\x00")), UUID: [16]byte(b[0x68:0x78]),
		Blocks: uint64(u32(b[0x04:])), Reserved: uint64(u32(b[0x08:])),
		Damaged: u16(b[0x3a:])&stateError != 0, Replay: incompat&incompatRecover != 0,
		Renamable: incompat&incompatSeed != 0,
		Quota:     readOnly&(roQuota|roProject) == roQuota|roProject,
	}
	if incompat&incompat64bit != 0 {
		s.Blocks |= uint64(u32(b[0x150:])) << 32
		s.Reserved |= uint64(u32(b[0x154:])) << 32
	}
	if shift > largestBlockShift || s.Blocks == 0 || s.Reserved > s.Blocks {
		return Super{}, fmt.Errorf("%w: %d blocks of 2^%d KiB, %d reserved", ErrNone, s.Blocks, shift, s.Reserved)
	}
	s.BlockSize = 1024 << shift
	return s, nil
}

// The kernel's calls (Linux, include/uapi/linux/ext4.h).
const (
	resizeFS = 0x40086610 // _IOW('f', 16, __u64)
	setUUID  = 0x4008662c // _IOW('f', 44, struct fsuuid), since Linux 6.0
)

// Grow lets the file system that is mounted at target grow to blocks of its own size. The kernel does it group by
// group, each in one transaction: after a power cut the file system is intact, and a second call continues.
func Grow(target string, blocks uint64) error {
	if err := ioctl(target, resizeFS, unsafe.Pointer(&blocks)); err != nil {
		return fmt.Errorf("grow the file system at %s to %d blocks: %w", target, blocks, err)
	}
	return nil
}

// SetUUID gives the file system that is mounted at target another UUID.
func SetUUID(target string, uuid [16]byte) error {
	request := struct {
		length, flags uint32
		uuid          [16]byte
	}{length: 16, uuid: uuid}
	if err := ioctl(target, setUUID, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("set the UUID of the file system at %s: %w", target, err)
	}
	return nil
}

func ioctl(target string, request uintptr, argument unsafe.Pointer) error {
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close() // nothing was written
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
