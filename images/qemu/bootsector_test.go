package qemu

import (
	"os"
	"path/filepath"
	"testing"

	"resinos/bsp/boards"
)

// bootSector is a whole guest for the x86 BIOS that comes with QEMU. It prints a line on the serial port, then echoes
// what is typed; q powers the guest off, r resets it.
var bootSector = []byte{
	0x31, 0xc0, //       00 xor ax, ax
	0x8e, 0xd8, //       02 mov ds, ax
	0xfc,             // 04 cld
	0xbe, 0x3b, 0x7c, // 05 mov si, text
	0xac,       //       08 print: lodsb
	0x84, 0xc0, //       09 test al, al
	0x74, 0x06, //       0b jz read
	0xba, 0xf8, 0x03, // 0d mov dx, 0x3f8
	0xee,       //       10 out dx, al
	0xeb, 0xf5, //       11 jmp print
	0xba, 0xfd, 0x03, // 13 read: mov dx, 0x3fd
	0xec,       //       16 in al, dx
	0xa8, 0x01, //       17 test al, 1
	0x74, 0xf8, //       19 jz read
	0xba, 0xf8, 0x03, // 1b mov dx, 0x3f8
	0xec,      //       1e in al, dx
	0x3c, 'q', //        1f cmp al, 'q'
	0x74, 0x07, //       21 je off
	0x3c, 'r', //        23 cmp al, 'r'
	0x74, 0x0c, //       25 je reset
	0xee,       //       27 out dx, al
	0xeb, 0xe9, //       28 jmp read
	0xba, 0x04, 0x06, // 2a off: mov dx, 0x604 (ACPI PM1a control)
	0xb8, 0x00, 0x20, // 2d mov ax, 0x2000 (S5)
	0xef,       //       30 out dx, ax
	0xeb, 0xfe, //       31 jmp $
	0xba, 0xf9, 0x0c, // 33 reset: mov dx, 0xcf9
	0xb0, 0x06, //       36 mov al, 6
	0xee,       //       38 out dx, al
	0xeb, 0xfe, //       39 jmp $
}

const bootText = "hello from the disk\r\n\x00"

// bootDisk writes a disk with bootSector in its first sector.
func bootDisk(t *testing.T) string {
	t.Helper()
	sector := make([]byte, 1<<20)
	copy(sector[copy(sector, bootSector):], bootText)
	sector[510], sector[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk, with comma.img")
	if err := os.WriteFile(path, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// biosBoard is a board for bootSector.
func biosBoard() boards.Board {
	return boards.Board{Name: "bios", Qemu: boards.Qemu{
		System: "qemu-system-x86_64", Machine: "q35", CPU: "qemu64", Disk: "virtio-blk-pci", Network: "virtio-net-pci",
		Devices: []string{"virtio-rng-pci"},
	}}
}
