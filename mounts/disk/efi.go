package disk

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// efiGlobal is the vendor GUID of the variables that the UEFI specification itself defines (UEFI 2.10, section 3.3).
const efiGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// DevicePath is the PCI part of a UEFI device path: the functions from a host bridge to the controller of the boot
// disk, each written like the end of its name in sysfs, "1f.2". The zero value matches nothing.
type DevicePath []string

// Leads reports whether the sysfs path of a device contains exactly these PCI functions in this order.
func (d DevicePath) Leads(path string) bool {
	if len(d) == 0 {
		return false
	}
	var passed []string
	for part := range strings.SplitSeq(path, "/") {
		// A PCI function is called domain:bus:device.function; firmware does not know the kernel's bus numbers.
		if len(part) == len("0000:00:1f.2") && part[4] == ':' && part[7] == ':' && part[10] == '.' {
			passed = append(passed, part[8:])
		}
	}
	if len(passed) != len(d) {
		return false
	}
	for i := range d {
		if passed[i] != d[i] {
			return false
		}
	}
	return true
}

// BootedFrom reads which device the firmware booted from, from an efivarfs that is mounted at dir.
func BootedFrom(dir string) (DevicePath, error) {
	current, err := os.ReadFile(filepath.Join(dir, "BootCurrent-"+efiGlobal))
	if err != nil {
		return nil, fmt.Errorf("read boot entry: %w", err)
	}
	if len(current) != 6 { // 4 bytes of attributes, then a 16-bit number
		return nil, fmt.Errorf("read boot entry: BootCurrent has %d bytes, want 6", len(current))
	}
	name := fmt.Sprintf("Boot%04X-%s", binary.LittleEndian.Uint16(current[4:]), efiGlobal)
	option, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("read boot entry: %w", err)
	}
	if len(option) < 4 {
		return nil, fmt.Errorf("read boot entry: %s is cut short", name)
	}
	return ParseLoadOption(option[4:])
}

// ParseLoadOption reads the PCI path from an EFI_LOAD_OPTION (UEFI 2.10, section 3.1.3):
//
//	attributes u32 | length of path list u16 | description UTF-16 ending in 0 | path list | data
//
// A path node is: type u8 | sub-type u8 | length u16 with these four bytes | data. A path without PCI nodes gives nil.
func ParseLoadOption(b []byte) (DevicePath, error) {
	if len(b) < 6 {
		return nil, fmt.Errorf("parse load option: %d bytes are too few", len(b))
	}
	size := int(binary.LittleEndian.Uint16(b[4:]))
	rest := b[6:]
	for {
		if len(rest) < 2 {
			return nil, fmt.Errorf("parse load option: description does not end")
		}
		end := rest[0] == 0 && rest[1] == 0
		rest = rest[2:]
		if end {
			break
		}
	}
	if size > len(rest) {
		return nil, fmt.Errorf("parse load option: path list of %d bytes is cut short", size)
	}
	return parseNodes(rest[:size])
}

func parseNodes(b []byte) (DevicePath, error) {
	const hardware, pci, end = 0x01, 0x01, 0x7f
	var path DevicePath
	for len(b) >= 4 {
		kind, sub, size := b[0], b[1], int(binary.LittleEndian.Uint16(b[2:]))
		if size < 4 || size > len(b) {
			return nil, fmt.Errorf("parse device path: node of %d bytes among %d", size, len(b))
		}
		if kind == end {
			break
		}
		if kind == hardware && sub == pci && size == 6 {
			path = append(path, fmt.Sprintf("%02x.%x", b[5]&0x1f, b[4]&0x7))
		}
		b = b[size:]
	}
	return path, nil
}
