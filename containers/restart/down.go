package restart

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// maxDown limits the size of the file, above that of any real one.
const maxDown = 1 << 20

// LoadDown reads which apps a person took down. A missing file means none.
func LoadDown(file string) (map[string]bool, error) {
	down := map[string]bool{}
	f, err := plainfile.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return down, nil
	}
	if err != nil {
		return down, fmt.Errorf("read which apps are down: %w", err)
	}
	defer f.Close() // only read
	var names []string
	text, err := io.ReadAll(io.LimitReader(f, maxDown))
	if err == nil {
		err = json.Unmarshal(text, &names)
	}
	if err != nil {
		return down, fmt.Errorf("read which apps are down: %s: %w", file, err)
	}
	for _, name := range names {
		down[name] = true
	}
	return down, nil
}

// SaveDown writes which apps are down, and returns when the file is on the disk. If none is down, it removes the file.
func SaveDown(file string, down map[string]bool) error {
	if len(down) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep that no app is down: %w", err)
		}
		return nil
	}
	text, err := json.Marshal(slices.Sorted(maps.Keys(down)))
	if err == nil {
		err = atomicfile.Write(file, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep which apps are down: %w", err)
	}
	return nil
}
