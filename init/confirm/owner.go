package confirm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"resinos/mounts/attach"
)

// OwnersDir has the owner's checks: each executable file there has to exit with 0.
const OwnersDir = "/etc/resinos/health.d"

// The bounds of one check, and what of its output is kept.
const (
	checkTime = time.Minute
	checkSaid = 300
)

// ownersChecks runs the owner's checks in the order of their names, and returns the fault of the first that fails.
func ownersChecks(ctx context.Context, dir string, limit time.Duration) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the owner's checks: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread's mount namespace ends with the goroutine
		if err := attach.AllowExec(dir); err != nil {
			done <- err
			return
		}
		done <- runChecks(ctx, dir, entries, limit)
	}()
	return <-done
}

func runChecks(ctx context.Context, dir string, entries []fs.DirEntry, limit time.Duration) error {
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || strings.HasPrefix(e.Name(), ".") {
			continue // a README, a backup, a link that leads nowhere
		}
		if err := ownersCheck(ctx, path, limit); err != nil {
			return err
		}
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	*t = (*t)[max(0, len(*t)-checkSaid):]
	return len(p), nil
}

// ownersCheck runs one check, in a process group of its own that is killed when its time is over.
func ownersCheck(ctx context.Context, path string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	var said tail
	cmd := exec.CommandContext(ctx, path)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // what it left running must not hold its output open for us
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left running; mostly nothing
	}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(said), "?"))
	return fmt.Errorf("check %s: %w", path, errors.Join(err, nonEmpty(text)))
}

func nonEmpty(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
