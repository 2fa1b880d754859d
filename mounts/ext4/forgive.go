package ext4

import (
	"encoding/binary"
	"fmt"
)

// Where a superblock keeps the faults that the kernel has found: how many, and of the first and the last when, where and by whom.
const (
	stateAt      = 0x3a
	faultsAt     = 0x194
	firstFaultBy = 0x1a8 // a text of 32 bytes
	faultsEnd    = 0x200
)

// Forgive takes the mark of a fault off a file system that has been found sound since. It must be attached read-only, where the kernel
// writes nothing, or not at all.
//
// The superblock lies in two sectors, and a power cut between them would leave a file system that nobody can attach. So only the first
// is written, which holds all that is to be changed; the checksum is in the second. What it has to match is made up for by four bytes of
// the text that names who found the first fault, which nobody reads where none is counted.
func Forgive(d Disk) error {
	b, err := read(d, superAt, superSize)
	if err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	if _, err := Parse(b); err != nil {
		return fmt.Errorf("read superblock: %w", err)
	}
	binary.LittleEndian.PutUint16(b[stateAt:], binary.LittleEndian.Uint16(b[stateAt:])&^stateError)
	clear(b[faultsAt:faultsEnd])
	if binary.LittleEndian.Uint32(b[0x64:])&roMetadataCsum != 0 {
		makeUp(b, firstFaultBy)
	}
	if _, err := Parse(b); err != nil {
		return fmt.Errorf("forgive faults: %w", err)
	}
	if _, err := d.WriteAt(b[:sectorSize], superAt); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	return nil
}

// sectorSize is what every disk writes whole or not at all.
const sectorSize = 512

// makeUp sets the four bytes at a place so that the checksum that is there is right. A checksum of this kind is linear: each bit that is
// turned turns the same bits of it, whatever the others are. So it is a set of 32 equations of 32 unknowns.
func makeUp(b []byte, at int) {
	binary.LittleEndian.PutUint32(b[at:], 0)
	is := checksum(b)
	missing := is ^ binary.LittleEndian.Uint32(b[0x3fc:])
	var turns, turned [32]uint32 // turns[i] has i as its highest bit, and is turned by the bits turned[i]
	for bit := range 32 {
		binary.LittleEndian.PutUint32(b[at:], 1<<bit)
		column, by := checksum(b)^is, uint32(1)<<bit
		for high := 31; high >= 0; high-- {
			if column>>high&1 == 0 {
				continue
			}
			if turns[high] == 0 {
				turns[high], turned[high] = column, by
				break
			}
			column, by = column^turns[high], by^turned[high]
		}
	}
	bits := uint32(0)
	for high := 31; high >= 0; high-- {
		if missing>>high&1 == 1 {
			missing, bits = missing^turns[high], bits^turned[high]
		}
	}
	binary.LittleEndian.PutUint32(b[at:], bits)
}
