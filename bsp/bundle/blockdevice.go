package bundle

import (
	"os"

	"golang.org/x/sys/unix"
)

// BlockDevice is a Slot on the block device of its partition, or in a file.
type BlockDevice struct{ *os.File }

// Sync puts what was written onto the disk, and drops it from memory, so that it is read from the disk again.
func (b BlockDevice) Sync() error {
	if err := b.File.Sync(); err != nil {
		return err
	}
	// Advice: without it what is read back may come from memory.
	_ = unix.Fadvise(int(b.Fd()), 0, 0, unix.FADV_DONTNEED)
	return nil
}

// begin has the disk write what is in memory, and waits for nothing: the next chunks are unpacked meanwhile.
func (b BlockDevice) begin() {
	// Advice too: Sync waits for it, and says what fails.
	_ = unix.SyncFileRange(int(b.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
