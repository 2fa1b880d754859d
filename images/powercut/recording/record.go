package recording

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"resinos/images/qemu"
)

// A Session is a device whose writes are being recorded. Workloads drive it.
type Session struct {
	recording *Recording
	options   qemu.Options
	guest     *qemu.Guest
	shell     *qemu.Shell
	say       func(string)
}

// How long a device may take.
const (
	bootTimeout    = 3 * time.Minute
	commandTimeout = 2 * time.Minute
)

// Start boots a copy of o.Image on a disk of the given size, which is made in directory, and records. The caller
// ends it with Stop. say, which may be nil, hears of every section. The board's network leads to its ssh.
func Start(ctx context.Context, o qemu.Options, dir string, size int64, say func(string)) (*Session, error) {
	image, err := filepath.Abs(o.Image)
	if err != nil {
		return nil, err
	}
	stat, err := os.Stat(image)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	if size = max(size, stat.Size()) / SectorSize * SectorSize; say == nil {
		say = func(string) {}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create directory of recording: %w", err)
	}
	s := &Session{say: say, recording: &Recording{Dir: dir, Image: image, Built: stat.ModTime(), Size: size,
		Board: o.Board.Name}}
	o.Image, o.WriteLog = filepath.Join(dir, diskFile), filepath.Join(dir, LogFile)
	if err := CopyDisk(image, o.Image, size); err != nil {
		return nil, err
	}
	if err := s.start(ctx, o); err != nil {
		return nil, err
	}
	return s, nil
}

// start tries again when somebody else took the port.
func (s *Session) start(ctx context.Context, o qemu.Options) (err error) {
	for tries := 5; ; tries-- {
		if o.Network.SSHPort, err = qemu.FreePort(); err != nil {
			return err
		}
		s.options = o
		if s.guest, err = qemu.Start(ctx, o); err == nil || tries == 0 || !errors.Is(err, qemu.ErrPort) {
			return err
		}
	}
}

// Position is the number of entries that the log has now: what was asked of the disk before lies below it.
func (s *Session) Position() (int, error) {
	f, err := os.Open(filepath.Join(s.recording.Dir, LogFile))
	if err != nil {
		return 0, err
	}
	defer f.Close() // read only: closing cannot lose anything
	count, err := readCount(f)
	if errors.Is(err, io.EOF) {
		return 0, nil // QEMU writes the head with the first entry
	}
	return int(count), err
}

// Settle returns when the device has written nothing for so long. Its error is that it does not come to rest.
func (s *Session) Settle(ctx context.Context, rest time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout,
		fmt.Errorf("the device still writes after %v", bootTimeout))
	defer cancel()
	last, since := -1, time.Now()
	for {
		now, err := s.Position()
		if err != nil {
			return err
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= rest {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// section begins a new section of the log, here.
func (s *Session) section(one Section) (err error) {
	one.From, err = s.Position()
	s.recording.Sections = append(s.recording.Sections, one)
	s.say(one.Name)
	return err
}

// Promise records that from now on a fact is one of the values. See Promise.
func (s *Session) Promise(fact string, values ...string) error {
	at, err := s.Position()
	s.recording.Promises = append(s.recording.Promises, Promise{From: at, Fact: fact, Values: values})
	return err
}

// Run runs a command that must succeed and returns what it printed, without space at the ends.
func (s *Session) Run(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, fmt.Errorf("not done within %v", commandTimeout))
	defer cancel()
	shell, err := s.login(ctx)
	if err != nil {
		return "", err
	}
	var out, talk bytes.Buffer
	code, err := shell.Run(ctx, command, &out, &talk)
	if err == nil && code != 0 {
		err = fmt.Errorf("run %q: exit status %d: %s", command, code, strings.TrimSpace(talk.String()))
	}
	return strings.TrimSpace(out.String()), err
}

func (s *Session) login(ctx context.Context) (*qemu.Shell, error) {
	if s.shell != nil {
		return s.shell, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("no login within %v", bootTimeout))
	defer cancel()
	shell, err := qemu.Dial(ctx, s.guest.SSHAddress())
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, s.guest.LastLines())
	}
	s.shell = shell
	return shell, nil
}

// Reboot asks the device to reboot and returns when the next boot can be logged in to.
func (s *Session) Reboot(ctx context.Context) error {
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	before, err := s.Run(ctx, bootID)
	if err != nil {
		return err
	}
	s.ask(ctx, "osctl reboot")
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("no second boot within %v", bootTimeout))
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, 10*time.Second)
		now, err := s.Run(attempt, bootID)
		stop()
		if err == nil && now != before {
			return nil
		}
		s.hangUp()
		select {
		case <-s.guest.Done():
			return fmt.Errorf("reboot: the device switched itself off: %w", s.guest.Wait(ctx))
		case <-ctx.Done():
			return fmt.Errorf("reboot: %w\n%s", context.Cause(ctx), s.guest.LastLines())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// ask runs a command after which the device may hang up without telling a status.
func (s *Session) ask(ctx context.Context, command string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, _ = s.Run(ctx, command)
	s.hangUp()
}

func (s *Session) hangUp() {
	if s.shell != nil {
		_ = s.shell.Close() // it may be broken already
		s.shell = nil
	}
}

// Do records a workload as a section of its own. It says so if the device cannot do it, and done is false.
func (s *Session) Do(ctx context.Context, w Workload) (done bool, err error) {
	if w.Needs != "" {
		if _, err := s.Run(ctx, w.Needs); err != nil {
			s.say(fmt.Sprintf("%s is left out: %v", w.Name, err))
			return false, nil
		}
	}
	if err := s.section(Section{Name: w.Name, Free: w.Free, Careless: w.Careless}); err != nil {
		return false, err
	}
	if err := w.Do(ctx, s); err != nil {
		return false, fmt.Errorf("record %s: %w", w.Name, err)
	}
	return true, nil
}

// Stop powers the device off, saves the recording and returns it. After an error in a workload, Abort.
func (s *Session) Stop(ctx context.Context) (*Recording, error) {
	if err := s.section(Section{Name: "power off"}); err != nil {
		return nil, err
	}
	_, none := s.Run(ctx, "test -x /usr/sbin/fsck.fat")
	s.recording.MendsFAT = none == nil
	s.ask(ctx, "osctl poweroff")
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, errors.New("it does not power off"))
	defer cancel()
	if err := s.guest.Wait(ctx); err != nil {
		s.Abort()
		return nil, err
	}
	return s.recording, s.recording.Save()
}

// Abort ends the device at once. It may be called after Stop.
func (s *Session) Abort() {
	s.hangUp()
	s.guest.Kill()
}
