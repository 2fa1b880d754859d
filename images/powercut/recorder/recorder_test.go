package recorder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/images/powercut/recording"
	"resinos/mounts/atomicfile"
	"resinos/mounts/fat/fattest"
	"resinos/mounts/testenv"
)

// TestRecorder writes to a file system on a part and into two other parts, and plays the log back: the writes of the
// log are those that the disk has, and a flush stands where somebody waited for one.
func TestRecorder(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	testenv.NeedPrograms(t, "mkfs.ext4")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testenv.Lacking(t, "FUSE in the kernel: %v", err)
	}
	image := testenv.Disk(t, 24)
	testenv.Run(t, "mkfs.ext4", "-q", "-E", fmt.Sprintf("offset=%d", 4<<20), image, "16M")
	dir := t.TempDir()
	r, err := Start(image, dir, []Part{{Name: "state", Start: 4 << 20, Size: 16 << 20},
		{Name: "slot", Start: 20 << 20, Size: 4 << 20}, {Name: "env", Start: 2 << 20, Size: 504, Entry: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	r.Section(recording.Section{Name: "all"})
	part := func(name string) string { return filepath.Join(r.Dir, name) }
	loop, err := r.Loop("state")
	if err != nil {
		t.Fatal(err)
	}
	mounted := t.TempDir()
	if err := errors.Join(unix.Mount(loop.Name(), mounted, "ext4", 0, ""), loop.Close()); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(mounted, "record"), []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := r.position()
	overwrite(t, part("env"), bytes.Repeat([]byte("v"), 504), 0)
	overwrite(t, part("slot"), bytes.Repeat([]byte("s"), 3<<20), 4096)
	other, err := os.Open(loop.Name()) // as a program that looks at all disks of the host
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	if r.Released() {
		t.Error("Released while the loop device is open")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(part("env")); err != nil || string(text) != strings.Repeat("v", 504) {
		t.Errorf("env is %q, %v", text, err)
	}
	if _, err := os.Stat(part("none")); !os.IsNotExist(err) {
		t.Errorf("a part that is none: %v", err)
	}
	testenv.WaitFor(t, "the release of the parts", r.Released)
	rec, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err := recording.Load(dir); err != nil || loaded.Sections[0].Name != "all" {
		t.Errorf("saved: %+v, %v", loaded, err)
	}
	log, err := rec.OpenLog()
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	env := log.Entries[before:]
	if env[0].Sector != 4096 || env[0].Sectors != 1 || env[1].Sector != 2048 || !env[2].Flush {
		t.Errorf("the env was written as %+v", env[:3])
	}
	want := read(t, filepath.Join(dir, "disk.img"))
	if !bytes.Equal(replay(t, log, read(t, image)), want) {
		t.Error("the log is not what the disk has")
	}
	if flushes := strings.Count(kinds(log), "F"); flushes < 5 {
		t.Errorf("%d flushes: %s", flushes, kinds(log))
	}
}

func overwrite(t *testing.T, name string, data []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func replay(t *testing.T, log *recording.Log, disk []byte) []byte {
	t.Helper()
	for _, e := range log.Entries {
		data, err := log.Data(e)
		if err != nil {
			t.Fatal(err)
		}
		copy(disk[e.Sector*recording.SectorSize:], data)
	}
	return disk
}

// kinds is a letter for each entry.
func kinds(log *recording.Log) string {
	var b strings.Builder
	for _, e := range log.Entries {
		if e.Flush {
			b.WriteString("F")
		} else {
			b.WriteString("w")
		}
	}
	return b.String()
}

func TestFATFile(t *testing.T) {
	image := fattest.New(t, 40, "32")
	fattest.Copy(t, image, "first", "x")
	fattest.Copy(t, image, "resinos.env", strings.Repeat("e", 504))
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := FATFile(f, 0, "resinos.env")
	if err != nil {
		t.Fatal(err)
	}
	content, entry := make([]byte, p.Size), make([]byte, 11)
	_, err1 := f.ReadAt(content, p.Start)
	_, err2 := f.ReadAt(entry, p.Entry)
	if err1 != nil || err2 != nil || string(content) != strings.Repeat("e", 504) || string(entry) != "RESINOS ENV" {
		t.Errorf("%+v: %q, %q, %v, %v", p, content, entry, err1, err2)
	}
	if _, err := FATFile(f, 0, "grubenv"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that is not there: %v", err)
	}
}
