// Package socket owns the wait for a server that is just starting. Read Await first.
package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
)

// retrySocket is the wait between bind and listen of a server that is just starting, and the
// longest time that a lost event can cost.
const retrySocket = 5 * time.Millisecond

// Appears is what a watch is told of: a name that appears in a directory, and a file there that was written.
const Appears = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE

// Await returns once somebody accepts on the unix socket at path.
func Await(ctx context.Context, path string, log *slog.Logger) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("await %s: %w", path, err)
	}
	watch, err := dirwatch.Open(dir, Appears, log)
	if err != nil {
		return fmt.Errorf("await %s: %w", path, err)
	}
	defer watch.Close() // only read
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn.Close()
		}
		wait := retrySocket
		if errors.Is(err, unix.ENOENT) {
			wait = time.Minute // its creation wakes us
		}
		if err := watch.Wait(ctx, wait); err != nil {
			return err
		}
	}
}
