package verity

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reaction is what the kernel does when it reads a block that differs from the tree.
type Reaction string

// The reactions.
const (
	Fail  Reaction = ""                    // the read fails (EIO), and nothing else does
	Panic Reaction = "panic_on_corruption" // the kernel stops, so that a boot on trial fails for certain
)

// Module is the module of the kernel that Attach needs; it depends on that of the device mapper.
const Module = "dm_verity"

// HashModules lists modules with a faster SHA-256 than the kernel has built in, the best first. A processor may lack
// what one needs. The kernel takes the fastest that is loaded when Attach is called.
func HashModules(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"sha256_ssse3"} // with AVX, AVX2 and SHA-NI, whatever the processor has
	case "arm64":
		return []string{"sha2_ce", "sha256_arm64"}
	}
	return nil
}

// control is the device mapper's; the kernel creates it with the module dm_mod.
const control = "/dev/mapper/control"

// mostTable is more than a table of ours has.
const mostTable = 1024

// Attach has the kernel check what is read of a block device that has data and tree, and returns the node to read from.
// Nobody has to hold the device below open. Module has to be loaded.
func (r Root) Attach(name, below string, then Reaction) (node string, err error) {
	f, err := os.OpenFile(control, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("attach verity device: %w", err)
	}
	defer f.Close()
	m := mapper{fd: f.Fd(), name: name}
	number, err := m.do(unix.DM_DEV_CREATE, unix.DM_READONLY_FLAG, nil)
	if err != nil {
		return "", fmt.Errorf("attach verity device %s: %w", name, err)
	}
	_, err = m.do(unix.DM_TABLE_LOAD, unix.DM_READONLY_FLAG, r.target(below, then))
	if err == nil {
		_, err = m.do(unix.DM_DEV_SUSPEND, unix.DM_READONLY_FLAG, nil) // without DM_SUSPEND_FLAG it resumes
	}
	if err != nil {
		_, removed := m.do(unix.DM_DEV_REMOVE, 0, nil)
		return "", fmt.Errorf("attach verity device %s over %s: %w", name, below, errors.Join(err, removed))
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(number)), nil
}

// table returns the parameters of the target (Documentation/admin-guide/device-mapper/verity.rst).
func (r Root) table(below string, then Reaction) string {
	text := fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s -", below, below, BlockSize, BlockSize, r.Blocks, r.Blocks,
		r.Hash)
	if then != Fail {
		text += " 1 " + string(then)
	}
	return text
}

// target is the table as the kernel reads it: one target over all data.
func (r Root) target(below string, then Reaction) []byte {
	text := r.table(below, then)
	const head = unix.SizeofDmTargetSpec
	spec := unix.DmTargetSpec{Length: uint64(r.Blocks * BlockSize / 512), Next: uint32(head+len(text)+8) &^ 7}
	copy(spec.Target_type[:], "verity")
	out := make([]byte, spec.Next)
	copy(out, unsafe.Slice((*byte)(unsafe.Pointer(&spec)), head))
	copy(out[head:], text) // zeros follow
	return out
}

// mapper asks the device mapper about one device.
type mapper struct {
	fd   uintptr
	name string
}

// do runs one ioctl and returns the number of the device.
func (m mapper) do(request uintptr, flags uint32, data []byte) (uint64, error) {
	if len(data) > mostTable {
		return 0, unix.E2BIG
	}
	var call struct { // the kernel finds the data by Data_start
		unix.DmIoctl
		data [mostTable]byte
	}
	call.Version = [3]uint32{4, 0, 0} // the oldest of this form
	call.Data_size, call.Data_start = uint32(unsafe.Sizeof(call)), uint32(unsafe.Offsetof(call.data))
	call.Flags = flags
	copy(call.Name[:len(call.Name)-1], m.name)
	if data != nil {
		call.Target_count = 1
		copy(call.data[:], data)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, m.fd, request, uintptr(unsafe.Pointer(&call)))
	if errno != 0 {
		return 0, errno
	}
	return call.Dev, nil
}
