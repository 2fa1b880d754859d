package ext4

import (
	"encoding/binary"
	"fmt"
)

// The fields of a superblock about the faults that the kernel found: their count, and of the first and the last one the
// time, the place and the function.
const (
	stateAt      = 0x3a
	faultsAt     = 0x194
	firstFaultBy = 0x1a8 // a text of 32 bytes
	faultsEnd    = 0x200
)

// Forgive clears the error flag of a file system that was found sound since. The file system must be attached
// read-only, so that the kernel writes nothing, or not at all.
//
// The superblock occupies two sectors, and a power cut between two writes would leave a file system that nobody can
// attach. Forgive therefore writes only the first sector, which holds all fields to change. The checksum is in the
// second sector and stays as it is. To make it match, Forgive computes four bytes in the name of the function that
// found the first fault, which nobody reads while no fault is counted.
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
		fitChecksum(b, firstFaultBy)
	}
	if _, err := Parse(b); err != nil {
		return fmt.Errorf("forgive faults: %w", err)
	}
	if _, err := d.WriteAt(b[:sectorSize], superAt); err != nil {
		return fmt.Errorf("write superblock: %w", err)
	}
	return nil
}

// sectorSize is what every disk writes completely or not at all.
const sectorSize = 512

// fitChecksum sets the four bytes at a place so that the existing checksum is right. A checksum of this kind is linear:
// flipping one bit always flips the same bits of the checksum, whatever the other bits are. The four bytes are
// therefore the solution of 32 equations with 32 unknowns.
func fitChecksum(b []byte, at int) {
	binary.LittleEndian.PutUint32(b[at:], 0)
	is := checksum(b)
	missing := is ^ binary.LittleEndian.Uint32(b[0x3fc:])
	var turns, turned [32]uint32 // turns[i] has i as its highest bit; flipping the bits turned[i] flips it
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
