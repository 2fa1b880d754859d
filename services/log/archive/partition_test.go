package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/testenv"
	"resinos/services/log/entry"
	"resinos/services/log/ring"
)

func TestFit(t *testing.T) {
	root := attach.Mount{Major: 8, Target: "/", Flags: "rw", Type: "ext4", Super: "rw"}
	data := attach.Mount{Major: 8, Minor: 6, Target: "/mnt/data", Flags: "rw,noatime", Type: "ext4",
		Super: "rw,errors=remount-ro"}
	with := func(change func(*attach.Mount)) attach.Mount { m := data; change(&m); return m }
	for _, test := range []struct {
		name   string
		mounts []attach.Mount
		want   bool
	}{
		{"attached", []attach.Mount{root, data}, true},
		{"not attached", []attach.Mount{root}, false},
		{"only below it", []attach.Mount{root, with(func(m *attach.Mount) { m.Target = "/mnt/data/x" })}, false},
		{"a tmpfs stands in", []attach.Mount{root, with(func(m *attach.Mount) { m.Major, m.Type = 0, "tmpfs" })},
			false},
		{"a tmpfs lies over it", []attach.Mount{root, data,
			with(func(m *attach.Mount) { m.Major, m.Type = 0, "tmpfs" })}, false},
		{"attached read-only", []attach.Mount{root, with(func(m *attach.Mount) { m.Flags = "ro,noatime" })}, false},
		{"made read-only after an error",
			[]attach.Mount{root, with(func(m *attach.Mount) { m.Super = "ro,errors=remount-ro" })}, false},
	} {
		m, err := fit(test.mounts, "/mnt/data")
		if (err == nil) != test.want || err == nil && m.Minor != 6 || err != nil && !errors.Is(err, ErrAbsent) {
			t.Errorf("%s: %+v, %v", test.name, m, err)
		}
	}
}

const helperEnv = "LOGARCHIVE_TEST_HELPER"

// scenes run as root in a mount namespace of their own, with a directory to play in.
var scenes = map[string]func(dir string) error{
	"partition": partitionScene, "symlinks": symlinkScene, "full": fullScene, "readonly": readOnlyScene,
	"flash": flashScene,
}

func TestMain(m *testing.M) {
	name := os.Getenv(helperEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = scenes[name](os.Getenv("SCENE_DIR"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestScenes(t *testing.T) {
	for name := range scenes {
		t.Run(name, func(t *testing.T) {
			testenv.NeedRoot(t, "a mount namespace")
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), helperEnv+"="+name, "SCENE_DIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// sceneLife is a life with n lines, outside of any test.
func sceneLife(dir string, n int) (*life, error) {
	l := &life{boot: [16]byte{1, 0xb0}}
	ring, _, err := ring.Open(filepath.Join(dir, "ring"), ring.DefaultSize, l.boot, l.clock)
	if err != nil {
		return nil, err
	}
	l.ring = ring
	return l, l.more(n)
}

// more is say with an error.
func (l *life) more(n int) error {
	for range n {
		e := entry.Entry{Kind: web.Kind, Name: web.Name, Stream: web.Stream, Priority: 6, PID: 7}
		if err := l.ring.Append(&e, []byte(l.text(l.said)), int64(l.said)); err != nil {
			return err
		}
		l.said++
	}
	return l.ring.Commit()
}

// count is how many entries lie in dir.
func count(dir string) (n int, err error) {
	boots, _, err := ring.Boots(dir)
	for _, b := range boots {
		rd := b.NewReader(0)
		for found := true; found && err == nil; {
			if found, err = rd.Next(new(entry.Entry)); found {
				n++
			}
		}
		rd.Close()
	}
	return n, err
}

// ext4 makes a file system in a file and attaches it at target.
func ext4(file, target string) error {
	size, err := os.Create(file)
	if err == nil {
		err = errors.Join(size.Truncate(64<<20), size.Close())
	}
	if err != nil {
		return err
	}
	for _, command := range [][]string{{"mke2fs", "-q", "-F", "-t", "ext4", file},
		{"mount", "-o", "loop,noatime,errors=remount-ro", file, target}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", command, err, out)
		}
	}
	return nil
}

// The partition comes late: nothing is written where it is not, and all is soon after it is there.
func partitionScene(dir string) error {
	mount, view := filepath.Join(dir, "data"), filepath.Join(dir, "var/log/journal")
	if err := errors.Join(os.Mkdir(mount, 0o755), os.MkdirAll(filepath.Dir(view), 0o755)); err != nil {
		return err
	}
	l, err := sceneLife(dir, 100)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	c := l.config("", log)
	place := &Partition{Mount: mount, View: view, Log: log}
	c.Place = place
	a := New(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for range 3 {
		if err := a.Flush(ctx); !errors.Is(err, ErrAbsent) {
			return fmt.Errorf("flush without a partition: %w", err)
		}
	}
	if err := unix.Mount("standin", mount, "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := a.Flush(ctx); !errors.Is(err, ErrAbsent) {
		return fmt.Errorf("flush with a tmpfs in its place: %w", err)
	}
	for _, path := range []string{mount, filepath.Dir(view)} {
		if left, err := os.ReadDir(path); err != nil || len(left) > 0 {
			return fmt.Errorf("%s holds %v, %v", path, left, err)
		}
	}
	if err := errors.Join(unix.Unmount(mount, 0), ext4(filepath.Join(dir, "disk"), mount)); err != nil {
		return err
	}
	// Nobody asks for it now: the kernel tells.
	if err := testenv.Await("what was kept in RAM is on the partition that came", func() bool {
		n, err := count(place.Dir())
		return err == nil && n == 100
	}); err != nil {
		return fmt.Errorf("%w\n%s", err, &said)
	}
	if n, err := count(view); err != nil || n != 100 {
		return fmt.Errorf("%d entries at %s, %w", n, view, err)
	}
	cancel()
	<-done
	if n := strings.Count(said.String(), "log not kept"); n != 1 {
		return fmt.Errorf("said %d times\n%s", n, &said)
	}
	return nil
}

// A stranger's symlinks on the partition lead nowhere.
func symlinkScene(dir string) error {
	mount, view := filepath.Join(dir, "data"), filepath.Join(dir, "view")
	outside := filepath.Join(dir, "outside")
	if err := errors.Join(os.Mkdir(mount, 0o755), os.Mkdir(view, 0o700), os.Mkdir(outside, 0o700),
		ext4(filepath.Join(dir, "disk"), mount)); err != nil {
		return err
	}
	l, err := sceneLife(dir, 100)
	if err != nil {
		return err
	}
	place := &Partition{Mount: mount, View: view, Log: slog.New(slog.DiscardHandler)}
	c := l.config("", nil)
	c.Place = place
	a := New(c)
	if err := errors.Join(os.MkdirAll(filepath.Dir(place.Dir()), 0o755), os.Symlink(outside, place.Dir())); err != nil {
		return err
	}
	if err := a.flush(context.Background()); err != nil { // the symlink is set aside, and a directory is made
		return err
	}
	a.close()
	if err := os.RemoveAll(filepath.Join(place.Dir(), ring.BootDir(1, l.boot))); err != nil {
		return err
	}
	a = New(c)
	boot := filepath.Join(place.Dir(), ring.BootDir(1, l.boot))
	if err := errors.Join(os.Symlink(outside, boot), a.flush(context.Background())); err != nil {
		return err
	}
	a.close()
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		return fmt.Errorf("outside: %v, %w", left, err)
	}
	if n, err := count(place.Dir()); err != nil || n != 100 {
		return fmt.Errorf("%d entries, %w", n, err)
	}
	return nil
}

// On a full disk the newest log takes the place of the oldest; without one it goes on in memory until there is room.
func fullScene(dir string) error {
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.Mkdir(disk, 0o755), unix.Mount("disk", disk, "tmpfs", 0, "size=1m")); err != nil {
		return err
	}
	l, err := sceneLife(dir, 20_000)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	c := l.config(filepath.Join(disk, "archive"), slog.New(slog.NewTextHandler(&said, nil)))
	c.Bytes = 512 << 10 // chunks of 16 KiB, some of which can go
	a := New(c)
	defer a.close()
	ctx := context.Background()
	if err := a.flush(ctx); err != nil {
		return err
	}
	before, err := count(c.Place.(dirPlace).dir)
	if err != nil || before != l.said {
		return fmt.Errorf("%d of %d entries, %w", before, l.said, err)
	}
	junk, err := os.Create(filepath.Join(disk, "junk"))
	for err == nil {
		_, err = junk.Write(make([]byte, 4096))
	}
	if err := l.more(1000); err != nil {
		return err
	}
	if err := a.flush(ctx); err != nil {
		return fmt.Errorf("with old chunks to give up: %w", err)
	}
	if _, _, newest := ends(c.Place.(dirPlace).dir); newest != l.said {
		return fmt.Errorf("newest entry is %d of %d", newest, l.said)
	}
	for err = nil; err == nil; {
		_, err = junk.Write(make([]byte, 4096))
	}
	for try := 0; err != nil && try < 2; try++ { // somebody takes each byte that is given up
		if err := l.more(20_000); err != nil {
			return err
		}
		err = a.flush(ctx)
		for err := error(nil); err == nil; {
			_, err = junk.Write(make([]byte, 512))
		}
	}
	if !isFull(err) || strings.Count(said.String(), "continues in memory") != 1 {
		return fmt.Errorf("on a full disk: %w\n%s", err, &said)
	}
	if err := junk.Truncate(0); err != nil {
		return err
	}
	if err := a.flush(ctx); err != nil {
		return err
	}
	if _, _, newest := ends(c.Place.(dirPlace).dir); newest != l.said ||
		!strings.Contains(said.String(), "kept on disk again") {
		return fmt.Errorf("newest entry is %d of %d\n%s", newest, l.said, &said)
	}
	return nil
}

// ends returns how many entries there are, and what lies around them.
func ends(dir string) (n, first, next int) {
	boots, _, err := ring.Boots(dir)
	if err != nil {
		return 0, 0, 0
	}
	for _, b := range boots {
		rd := b.NewReader(0)
		defer rd.Close()
		var e entry.Entry
		for found, err := rd.Next(&e); found && err == nil; found, err = rd.Next(&e) {
			if n == 0 {
				first = int(e.Seq)
			}
			n++
			next = int(e.Seq) + 1
		}
	}
	return n, first, next
}

// The file system is made read-only under the archive, as after an error of the disk, and comes back.
func readOnlyScene(dir string) error {
	mount, view := filepath.Join(dir, "data"), filepath.Join(dir, "view")
	if err := errors.Join(os.Mkdir(mount, 0o755), os.Mkdir(view, 0o700), ext4(filepath.Join(dir, "disk"),
		mount)); err != nil {
		return err
	}
	l, err := sceneLife(dir, 100)
	if err != nil {
		return err
	}
	c := l.config("", nil)
	place := &Partition{Mount: mount, View: view, Log: c.Log}
	c.Place = place
	a := New(c)
	ctx := context.Background()
	if err := a.flush(ctx); err != nil {
		return err
	}
	if err := l.more(100); err != nil {
		return err
	}
	// abort does what errors=remount-ro does at an error: files that are open for writing do not hinder it.
	if err := exec.Command("mount", "-o", "remount,abort", mount).Run(); err != nil {
		return fmt.Errorf("abort the file system: %w", err)
	}
	for range 3 {
		if err := a.flush(ctx); err == nil {
			return errors.New("flushed to a read-only file system")
		}
	}
	if n, err := count(place.Dir()); err != nil || n != 100 {
		return fmt.Errorf("%d entries, %w", n, err)
	}
	a.close()
	return nil
}
