package fsck

import (
	"context"
	"fmt"
	"os"

	"resinos/mounts/ext4"
)

// Recheck checks an ext4 file system with the error flag that is attached read-only, and which nothing repairs
// therefore: a slot. If it finds no fault it clears the flag, because a card may return wrong data once. said is a line
// for the log; it is empty if the flag was not set. The error reports the fault.
func Recheck(ctx context.Context, run Run, node string) (said string, err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	defer f.Close() // Forgive has synced
	s, err := ext4.Read(f)
	if err != nil || !s.Damaged {
		return "", err
	}
	status, output, err := run(ctx, []string{E2fsck, "-f", "-n", node})
	if err != nil {
		return "", fmt.Errorf("check %s: the kernel found a fault in it: %s: %w", node, E2fsck, err)
	}
	if status != 0 {
		return "", fmt.Errorf("check %s: the kernel found a fault in it, and so does e2fsck: exit status %d: %s", node,
			status, summary(output, false))
	}
	if err := ext4.Forgive(f); err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	return "the kernel had found a fault in it, e2fsck finds none: " + summary(output, true), nil
}
