// Package mirror keeps a copy of a file that is replaced by rename, for processes that see only the copy. Read File
// first.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
)

// appears is what the watch is told of: a name that appears in a directory, and a file there that was written.
const appears = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE

// File keeps to the same as from, by writing into one and the same file, until ctx is done.
// A file bound into a container is the file and not its name: were the device's resolv.conf bound
// itself, its next replacement by rename would never reach the container. to exists when ready
// is closed, empty while from does not exist.
func File(ctx context.Context, from, to string, ready chan<- struct{}, log *slog.Logger) error {
	opened := sync.OnceFunc(func() { close(ready) })
	defer opened()
	for _, f := range []string{from, to} {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			return fmt.Errorf("mirror %s: %w", from, err)
		}
	}
	watch, err := dirwatch.Open(filepath.Dir(from), appears, log)
	if err != nil {
		return err
	}
	defer watch.Close() // only read
	for {
		if err := copyInto(from, to); err != nil {
			log.Warn("file of containers not updated", "file", to, "error", err)
		}
		opened()
		if err := watch.Wait(ctx, time.Hour); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// copyInto overwrites to in place if it differs.
func copyInto(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old, err := os.ReadFile(to); err == nil && string(old) == string(data) {
		return nil
	}
	return os.WriteFile(to, data, 0o644)
}
