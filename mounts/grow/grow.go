// Package grow owns the changes of a disk while the device runs from it: it repairs the partition table, lets the data
// partition and its file system grow to the end of the disk, sets the containers' limit to the new size, and gives the
// file systems identifiers of their own.
//
// Every part may be interrupted anywhere; the next run repeats it or finds it done. The package does not write into
// partitions itself, except the four bytes of a FAT's volume number: the kernel does. Read Device first.
package grow

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/ext4"
	"resinos/mounts/gpt"
	"resinos/mounts/quota"
)

// Device is the disk that a device runs from, with the mounts of its partitions.
type Device struct {
	Sys, Dev   string           // "/sys", "/dev"
	Disk       string           // kernel name
	Partitions []disk.Partition // of all disks
	Mounts     []attach.Mount
	Log        *slog.Logger
}

// Run repairs, grows, limits and identifies. A fault of one part does not keep the others from being done.
func (d *Device) Run() error {
	return errors.Join(d.table(), d.fileSystem(), d.limit(), d.unique())
}

// node is the path of a disk or partition.
func (d *Device) node(name string) string { return filepath.Join(d.Dev, name) }

// table repairs the partition table, and informs the kernel of a partition that has grown.
func (d *Device) table() error {
	data, found := disk.OnDisk(d.Partitions, d.Disk, disk.Data)
	if !found {
		return fmt.Errorf("grow %s: not on disk %q", disk.Data, d.Disk)
	}
	sector, size := disk.Geometry(d.Sys, data)
	f, err := os.OpenFile(d.node(d.Disk), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("repair partition table: %w", err)
	}
	defer f.Close() // all writes are synced
	table, err := gpt.Read(f, int(sector), gpt.LBA(size/sector))
	if errors.Is(err, gpt.ErrNone) {
		return nil // a board with an MBR: its table is not repaired here
	}
	if err != nil {
		return fmt.Errorf("disk %s: %w", d.Disk, err)
	}
	repair, err := gpt.Plan(table, disk.Data)
	if err != nil {
		return fmt.Errorf("disk %s: %w", d.Disk, err)
	}
	for _, why := range repair.Why {
		d.Log.Warn("partition table is changed", "disk", d.Disk, "reason", why)
	}
	if err := repair.Apply(f, int(sector)); err != nil {
		return fmt.Errorf("disk %s: %w", d.Disk, err)
	}
	return d.tellKernel(f, table, repair, data)
}

// tellKernel informs the kernel of the size of the data partition in the table. Its beginning is the same, its end may
// have moved.
func (d *Device) tellKernel(f *os.File, table gpt.Table, repair gpt.Repair, data disk.Partition) error {
	for _, e := range table.Entries {
		if e.Number != data.Number {
			continue
		}
		if repair.Grown != nil {
			e = *repair.Grown
		}
		start, length := disk.Bytes(e.First)*disk.Bytes(table.Sector),
			disk.Bytes(e.Last-e.First+1)*disk.Bytes(table.Sector)
		if start != data.Start || length <= data.Size {
			return nil // the kernel knows a larger partition: it read a newer table than we did
		}
		if err := resize(f, e.Number, start, length); err != nil {
			return fmt.Errorf("resize %s to %v in the kernel: %w; it reads the size at the next boot", data.Device,
				length, err)
		}
		d.Log.Info("partition grown", "partition", data.Device, "size", int64(length))
	}
	return nil
}

// resize changes the size of a partition in the kernel while it is in use.
func resize(f *os.File, number int, start, length disk.Bytes) error {
	return partition(f, unix.BLKPG_RESIZE_PARTITION, unix.BlkpgPartition{Start: int64(start), Length: int64(length),
		Pno: int32(number)})
}

// partition changes what the kernel knows about a disk's partitions (Linux, include/uapi/linux/blkpg.h).
func partition(f *os.File, op int32, p unix.BlkpgPartition) error {
	argument := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&argument))); errno != 0 {
		return errno
	}
	return nil
}

// mounted finds the mount of a partition of the device's disk.
func (d *Device) mounted(label string) (disk.Partition, attach.Mount, bool) {
	p, found := disk.OnDisk(d.Partitions, d.Disk, label)
	if found {
		for _, m := range d.Mounts {
			if m.Major == p.Major && m.Minor == p.Minor && m.Root == "/" {
				return p, m, true
			}
		}
	}
	return p, attach.Mount{}, false
}

// leastGain is the least growth of a file system: less is not worth the writes.
const leastGain = 4 * disk.MiB

// fileSystem lets the file system of data fill its partition.
func (d *Device) fileSystem() error {
	p, m, found := d.mounted(disk.Data)
	if !found {
		return fmt.Errorf("grow %s: it is not attached", disk.Data)
	}
	s, size, err := look(d.node(p.Device))
	if err != nil {
		return fmt.Errorf("grow %s: %w", disk.Data, err)
	}
	have := disk.Bytes(s.Blocks) * disk.Bytes(s.BlockSize)
	if size-have < leastGain {
		return nil
	}
	if err := ext4.Grow(m.Target, uint64(size/disk.Bytes(s.BlockSize))); err != nil {
		return err
	}
	d.Log.Info("file system grown", "partition", p.Device, "size", int64(size))
	return nil
}

// limit sets the containers' limit to the size that the file system has now.
func (d *Device) limit() error {
	_, m, found := d.mounted(disk.Data)
	if !found || !quota.On(m.Super) {
		return nil // the boot has reported it
	}
	limit, changed, err := quota.Limit(m.Target)
	if changed {
		d.Log.Info("containers have a new limit", "path", m.Target, "size", int64(limit.Space), "count", limit.Files)
	}
	return err
}

// look reads the superblock and the size of a partition. Of a mounted one it reads what the kernel has in memory.
func look(node string) (ext4.Super, disk.Bytes, error) {
	f, err := os.Open(node)
	if err != nil {
		return ext4.Super{}, 0, err
	}
	defer f.Close() // nothing was written
	size, err := f.Seek(0, 2)
	if err != nil {
		return ext4.Super{}, 0, err
	}
	s, err := ext4.Read(f)
	return s, disk.Bytes(size), err
}

// unique gives the file systems identifiers that no other device has. The builder derives those of an image from its
// content (UUIDs of version 8), so all devices with that image begin with the same ones.
func (d *Device) unique() error {
	var state ext4.Super
	var faults []error
	for _, label := range []string{disk.State, disk.Data} {
		s, err := d.renew(label)
		faults = append(faults, err)
		if label == disk.State {
			state = s
		}
	}
	if !ofImage(state.UUID) && state.Blocks > 0 {
		faults = append(faults, d.renumber(binary.BigEndian.Uint32(state.UUID[:])))
	}
	return errors.Join(faults...)
}

func ofImage(uuid [16]byte) bool { return uuid[6]>>4 == 8 }

func (d *Device) renew(label string) (ext4.Super, error) {
	p, m, found := d.mounted(label)
	if !found {
		return ext4.Super{}, nil // the boot has reported it
	}
	s, _, err := look(d.node(p.Device))
	if err != nil || !ofImage(s.UUID) || !s.Renamable {
		return s, err
	}
	if _, err := rand.Read(s.UUID[:]); err != nil {
		return ext4.Super{}, err
	}
	s.UUID[6], s.UUID[8] = s.UUID[6]&0x0f|0x40, s.UUID[8]&0x3f|0x80 // RFC 9562: version 4, random
	if err := ext4.SetUUID(m.Target, s.UUID); err != nil {
		return ext4.Super{}, err
	}
	d.Log.Info("file system has an identifier of its own", "partition", p.Device)
	return s, nil
}

// renumber writes the volume number of the boot partition's FAT32 at byte 67: first in the copy of the boot sector,
// then in the boot sector. After a power cut between the two, the next boot repeats it.
func (d *Device) renumber(wanted uint32) error {
	p, found := disk.OnDisk(d.Partitions, d.Disk, disk.Boot)
	if !found {
		return nil
	}
	f, err := os.OpenFile(d.node(p.Device), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("number %s: %w", disk.Boot, err)
	}
	if err := errors.Join(renumber(f, wanted), f.Close()); err != nil {
		return fmt.Errorf("number %s: %w", disk.Boot, err)
	}
	return nil
}

func renumber(f *os.File, wanted uint32) error {
	b := make([]byte, 512)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	if b[22] != 0 || b[23] != 0 || b[66] != 0x29 || b[510] != 0x55 || b[511] != 0xaa {
		return nil // not a FAT32 with a volume number
	}
	places := []int64{67}
	if second := int64(binary.LittleEndian.Uint16(b[50:])); second > 0 && second < 32 {
		places = []int64{second*512 + 67, 67}
	}
	for _, at := range places {
		number := make([]byte, 4)
		if _, err := f.ReadAt(number, at); err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(number) == wanted {
			continue
		}
		binary.LittleEndian.PutUint32(number, wanted)
		if _, err := f.WriteAt(number, at); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}
