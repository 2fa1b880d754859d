package update

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"resinos/bsp/bootvars"
	"resinos/mounts/plainfile"
)

// BootDir is where the boot partition with the variables is attached.
const BootDir = "/mnt/boot"

// ReadVariables reads the boot variables below dir, and says which bootloader they are for. If it names one beside an
// error, the file is damaged, and the variables are those that the bootloader would use; if it names none, nobody knows
// them.
func ReadVariables(dir string) (bootvars.Bootloader, bootvars.Variables, error) {
	for _, b := range bootvars.Bootloaders() {
		text, err := plainfile.Read(filepath.Join(dir, b.File()), 64<<10)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", bootvars.New(), fmt.Errorf("read boot variables: %w", err)
		}
		v, err := b.Parse(text)
		return b, v, err
	}
	return "", bootvars.New(), fmt.Errorf("read boot variables: none in %s; try: osctl verify boot", dir)
}

// WriteVariables replaces the boot variables below dir in one write in place, and waits for the disk: the bootloader
// finds the file by its blocks, and what changes lies in one sector. A file of another size is not written to.
func WriteVariables(dir string, b bootvars.Bootloader, v bootvars.Variables) error {
	text, err := b.Encode(v)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, b.File())
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write boot variables: %w", err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(len(text)) {
		return errors.Join(fmt.Errorf("write boot variables %s: %d bytes, want %d", path, info.Size(), len(text)),
			err, f.Close())
	}
	const sector = 512
	_, err = f.WriteAt(text[:min(sector, len(text))], 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write boot variables: %w", err)
	}
	return nil
}
