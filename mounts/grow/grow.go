// Package grow owns what is done to a disk while the device already runs from it: the partition table is repaired, the data
// partition and its file system reach to the end of the disk, containers get their part of that, and the file systems identifiers
// of their own.
//
// Every part may be cut off anywhere and is done again, or found done, the next time. It never writes into a partition itself, but for
// the four bytes of a FAT's volume number: the kernel does. Read Device first.
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

// Device is the disk that a device runs from, and what of it is attached where.
type Device struct {
	Sys, Dev   string           // "/sys", "/dev"
	Disk       string           // kernel name
	Partitions []disk.Partition // of all disks
	Mounts     []attach.Mount
	Log        *slog.Logger
}

// Run does all there is to do. What goes wrong with one part does not keep the others from being done.
func (d *Device) Run() error {
	return errors.Join(d.table(), d.fileSystem(), d.limit(), d.unique())
}

// node is the path of a disk or partition.
func (d *Device) node(name string) string { return filepath.Join(d.Dev, name) }

// table repairs the partition table, and tells the kernel of a partition that is larger than it knows.
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
	defer f.Close() // what was written is synced
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
	return d.tell(f, table, repair, data)
}

// tell makes the kernel's idea of the data partition that of the table: its beginning is as it was, its end may have moved.
func (d *Device) tell(f *os.File, table gpt.Table, repair gpt.Repair, data disk.Partition) error {
	for _, e := range table.Entries {
		if e.Number != data.Number {
			continue
		}
		if repair.Grown != nil {
			e = *repair.Grown
		}
		start, length := disk.Bytes(e.First)*disk.Bytes(table.Sector), disk.Bytes(e.Last-e.First+1)*disk.Bytes(table.Sector)
		if start != data.Start || length <= data.Size {
			return nil // a kernel that knows it to be larger read a newer table than we did
		}
		if err := resize(f, e.Number, start, length); err != nil {
			return fmt.Errorf("tell the kernel that %s has %v: %w; it learns that at the next boot", data.Device, length, err)
		}
		d.Log.Info("partition grown", "partition", data.Device, "size", int64(length))
	}
	return nil
}

// resize works while the partition is in use.
func resize(f *os.File, number int, start, length disk.Bytes) error {
	return partition(f, unix.BLKPG_RESIZE_PARTITION, unix.BlkpgPartition{Start: int64(start), Length: int64(length), Pno: int32(number)})
}

// partition changes what the kernel knows of a disk's partitions (Linux, include/uapi/linux/blkpg.h).
func partition(f *os.File, op int32, p unix.BlkpgPartition) error {
	argument := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&argument))); errno != 0 {
		return errno
	}
	return nil
}

// mounted finds where a partition of ours is attached.
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

// leastGain is what a file system must lack of its partition to be grown: less is not worth the writes.
const leastGain = 4 * disk.MiB

// fileSystem has the data's file system fill its partition.
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

// limit gives containers their part of what the file system has now.
func (d *Device) limit() error {
	_, m, found := d.mounted(disk.Data)
	if !found || !quota.On(m.Super) {
		return nil // the boot has said so
	}
	limit, changed, err := quota.Limit(m.Target)
	if changed {
		d.Log.Info("containers have a new limit", "path", m.Target, "size", int64(limit.Space), "count", limit.Files)
	}
	return err
}

// look reads the superblock and the size of a partition. What is read of a mounted one is what the kernel has in memory.
func look(node string) (ext4.Super, disk.Bytes, error) {
	f, err := os.Open(node)
	if err != nil {
		return ext4.Super{}, 0, err
	}
	defer f.Close() // only read
	size, err := f.Seek(0, 2)
	if err != nil {
		return ext4.Super{}, 0, err
	}
	s, err := ext4.Read(f)
	return s, disk.Bytes(size), err
}

// unique gives the file systems identifiers that no other device has. Those of an image are derived from its content (UUIDs of
// version 8), so all devices that it was written to have them.
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
		return ext4.Super{}, nil // the boot has said so
	}
	s, _, err := look(d.node(p.Device))
	if err != nil || !ofImage(s.UUID) || !s.Renamable {
		return s, err
	}
	if _, err := rand.Read(s.UUID[:]); err != nil {
		return ext4.Super{}, err
	}
	s.UUID[6], s.UUID[8] = s.UUID[6]&0x0f|0x40, s.UUID[8]&0x3f|0x80 // RFC 9562: version 4, made by chance
	if err := ext4.SetUUID(m.Target, s.UUID); err != nil {
		return ext4.Super{}, err
	}
	d.Log.Info("file system has an identifier of its own", "partition", p.Device)
	return s, nil
}

// renumber writes the volume number of the boot partition's FAT32: at byte 67 of the boot sector's copy first, then of the boot
// sector. A cut between the two is mended by the next boot.
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
		return nil // no FAT32 that carries a number
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
