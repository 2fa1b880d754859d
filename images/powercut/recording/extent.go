package recording

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// EachExtent calls do for every stretch of a file between start and end that is no hole. A file system without holes
// has one.
func EachExtent(f *os.File, start, end int64, do func(start, end int64) error) error {
	for at := start; at < end; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole up to the end
		}
		if err != nil {
			return fmt.Errorf("find data in %s: %w", f.Name(), err)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("find hole in %s: %w", f.Name(), err)
		}
		if data >= end {
			return nil
		}
		if err := do(data, min(hole, end)); err != nil {
			return err
		}
		at = hole
	}
	return nil
}
