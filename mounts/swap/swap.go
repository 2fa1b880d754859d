// Package swap owns swap in compressed RAM (zram): its size, the content of its first page, and turning it on.
//
// It never swaps to a disk, because flash would wear out. It loads no module. Read Plan first, then Use.
package swap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"resinos/mounts/disk"
)

// Module is the kernel module of the device.
const Module = "zram"

// device is the device that the module creates when it is loaded.
const device = "zram0"

// most is the limit of the reference system. It counts the pages, not the RAM that they occupy when compressed.
const most = 4_096_000 * disk.KiB

// priority makes the kernel use it before any swap that the owner adds on a disk.
const priority = 100

// A Plan is the swap device to set up.
type Plan struct {
	Size      disk.Bytes // of the pages before compression; 0: no swap
	Algorithm string     // empty: the kernel's own choice
}

// String returns the plan for people.
func (p Plan) String() string {
	algorithm := p.Algorithm
	if algorithm == "" {
		algorithm = "the kernel's algorithm"
	}
	return fmt.Sprintf("swap of %s in RAM, by %s", p.Size, algorithm)
}

// Make plans half of the memory in whole pages, at most 4,096,000 KiB, compressed with lz4 if the kernel has it.
// meminfo is the content of /proc/meminfo; algorithms is comp_algorithm of the device, a list of names in which
// brackets mark the one in use.
func Make(meminfo, algorithms string, page int) (Plan, error) {
	total, err := memory(meminfo)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Size: min(total/2, most) / disk.Bytes(page) * disk.Bytes(page)}
	for name := range strings.FieldsSeq(algorithms) {
		if strings.Trim(name, "[]") == "lz4" {
			p.Algorithm = "lz4"
		}
	}
	return p, nil
}

func memory(meminfo string) (disk.Bytes, error) {
	for line := range strings.Lines(meminfo) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		n, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || n < 0 || n > 1<<50 {
			return 0, fmt.Errorf("read size of memory: %q", strings.TrimSpace(line))
		}
		return disk.Bytes(n) * disk.KiB, nil
	}
	return 0, errors.New("read size of memory: no line MemTotal")
}

// Header returns the first page of a swap area of the given size, or nil if it is too small for one. Numbers are in the
// byte order of the machine (Linux, include/linux/swap.h: union swap_header):
//
//	1024       u32 version 1
//	1028       u32 number of the last page
//	1032       u32 bad pages, 0
//	1036       16 bytes UUID, 16 bytes label: zeros, nobody looks for it
//	page - 10  "SWAPSPACE2"
func Header(size disk.Bytes, page int) []byte {
	last := int64(size)/int64(page) - 1
	if last < 1 || last > 1<<32-1 {
		return nil
	}
	head := make([]byte, page)
	binary.NativeEndian.PutUint32(head[1024:], 1)
	binary.NativeEndian.PutUint32(head[1028:], uint32(last))
	copy(head[page-10:], "SWAPSPACE2")
	return head
}

// InUse reports whether a device is in /proc/swaps.
func InUse(swaps, node string) bool {
	for line := range strings.Lines(swaps) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == node {
			return true
		}
	}
	return false
}

// kernel is the root that Use works below, and its swapon; a test uses a directory of its own and turns nothing on.
type kernel struct {
	root string
	on   func(node string) error
}

// Use sets the device up and turns it on, unless it is on already. The module must be loaded.
func Use() (Plan, error) { return kernel{"/", swapOn}.use() }

func (k kernel) path(name string) string { return filepath.Join(k.root, name) }

func (k kernel) use() (Plan, error) {
	node := "/dev/" + device
	swaps, err := os.ReadFile(k.path("proc/swaps"))
	if err != nil {
		return Plan{}, fmt.Errorf("look for swap: %w", err)
	}
	meminfo, err := os.ReadFile(k.path("proc/meminfo"))
	if err != nil {
		return Plan{}, fmt.Errorf("read size of memory: %w", err)
	}
	algorithms, err := os.ReadFile(k.attribute("comp_algorithm"))
	if err != nil {
		return Plan{}, fmt.Errorf("look for %s: %w; is module %s loaded?", node, err, Module)
	}
	plan, err := Make(string(meminfo), string(algorithms), os.Getpagesize())
	if err != nil || InUse(string(swaps), node) {
		return plan, err
	}
	head := Header(plan.Size, os.Getpagesize())
	if head == nil {
		return plan, fmt.Errorf("make %s: it is too small", plan)
	}
	return plan, k.setUp(plan, node, head)
}

func (k kernel) attribute(name string) string { return k.path("sys/block/" + device + "/" + name) }

// setUp resets the device first, because an earlier attempt may have been interrupted: a device whose size is set
// accepts no other algorithm.
func (k kernel) setUp(p Plan, node string, head []byte) error {
	settings := [][2]string{{"reset", "1"}, {"comp_algorithm", p.Algorithm},
		{"disksize", strconv.FormatInt(int64(p.Size), 10)}}
	settings = slices.DeleteFunc(settings, func(s [2]string) bool { return s[1] == "" })
	for _, s := range settings {
		if err := put(k.attribute(s[0]), []byte(s[1])); err != nil {
			return fmt.Errorf("set %s of %s to %s: %w", s[0], node, s[1], err)
		}
	}
	if err := put(k.path(node), head); err != nil {
		return fmt.Errorf("write head of %s: %w", node, err)
	}
	if err := k.on(k.path(node)); err != nil {
		return fmt.Errorf("turn swap on %s on: %w", node, err)
	}
	return nil
}

// put writes into an existing file and creates none.
func put(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// swapOn calls swapon(2), which x/sys does not have. EBUSY means that it is on already.
func swapOn(node string) error {
	const prefer = 0x8000 // SWAP_FLAG_PREFER: the low bits are the priority
	name, err := unix.BytePtrFromString(node)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), prefer|priority, 0)
	if errno != 0 && errno != unix.EBUSY {
		return &fs.PathError{Op: "swapon", Path: node, Err: errno}
	}
	return nil
}
