package fsck

import (
	"context"
	"fmt"
	"os"

	"resinos/mounts/ext4"
)

// Recheck deals with the mark of a fault on an ext4 that is attached read-only, and that nothing repairs therefore: a slot. It is checked
// as it is, and if nothing is wrong with it any more the mark is taken off: a card may read badly once. said is for the log, and empty
// where there is no mark. The error says what is wrong with it.
func Recheck(ctx context.Context, run Run, node string) (said string, err error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	defer f.Close() // what counts is on the disk with Sync
	s, err := ext4.Read(f)
	if err != nil || !s.Damaged {
		return "", err
	}
	status, output, err := run(ctx, []string{E2fsck, "-f", "-n", node})
	if err != nil {
		return "", fmt.Errorf("check %s: the kernel found a fault in it: %s: %w", node, E2fsck, err)
	}
	if status != 0 {
		return "", fmt.Errorf("check %s: the kernel found a fault in it, and it has one: exit status %d: %s", node, status, gist(output, false))
	}
	if err := ext4.Forgive(f); err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("check %s: %w", node, err)
	}
	return "the kernel had found a fault in it, which is not there now: " + gist(output, true), nil
}
