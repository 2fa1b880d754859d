package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/testenv"
	"resinos/services/log/entry"
)

// load is a device that says so many lines between two flushes.
type load struct {
	name    string
	lines   int
	flushes int
}

// loads of the benchmark: intervals of five minutes, and a megabyte at once.
var loads = []load{{"line_in_10s", 30, 36}, {"line_a_second", 300, 36}, {"flood", 12_000, 12}}

// cost is what a load took.
type cost struct {
	Text    int64 // bytes of messages
	Written int64 // bytes that reached the block device, the file system's own included
	Files   int64 // bytes of the files
	Flushes int64
}

// BenchmarkFlash measures what keeping the log writes to a block device with an ext4 as on the device, when all that is
// dirty is written out after each flush, as the kernel does within half a minute.
func BenchmarkFlash(b *testing.B) {
	testenv.NeedRoot(b, "a loop device")
	for _, l := range loads {
		b.Run(l.name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), helperEnv+"=flash", "SCENE_DIR="+b.TempDir(), "SCENE_LOAD="+l.name)
				cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				var c cost
				if err == nil {
					err = json.Unmarshal(out, &c)
				}
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(c.Written)/float64(c.Flushes)/1024, "KiB/flush")
				b.ReportMetric(float64(c.Written)/float64(c.Text), "written/text")
				b.ReportMetric(float64(c.Files)/float64(c.Text), "kept/text")
				b.ReportMetric(float64(c.Text)/float64(c.Flushes)/1024, "KiB-text/flush")
			}
		})
	}
}

// flashScene is one load.
func flashScene(dir string) error {
	mount, view := filepath.Join(dir, "data"), filepath.Join(dir, "view")
	if err := errors.Join(os.Mkdir(mount, 0o755), os.Mkdir(view, 0o700), ext4(filepath.Join(dir, "disk"),
		mount)); err != nil {
		return err
	}
	life, err := sceneLife(dir, 0)
	if err != nil {
		return err
	}
	c := life.config("", nil)
	place := &Partition{Mount: mount, View: view, Log: c.Log}
	c.Place = place
	a := New(c)
	defer a.close()
	// What is there once, directories and the boot's first chunk, does not count.
	if err := errors.Join(life.speak(700, nil), a.flush(context.Background()), syncAll(mount)); err != nil {
		return err
	}
	var total cost
	before, err := written(mount)
	if err != nil {
		return err
	}
	filesBefore := a.out.store.sum()
	for _, l := range loads {
		for i := 0; l.name == os.Getenv("SCENE_LOAD") && i < l.flushes; i++ {
			if err := errors.Join(life.speak(l.lines, &total.Text), a.flush(context.Background()),
				syncAll(mount)); err != nil {
				return err
			}
			total.Flushes++
		}
	}
	after, err := written(mount)
	if err != nil {
		return err
	}
	total.Written, total.Files = after-before, a.out.store.sum()-filesBefore
	return json.NewEncoder(os.Stdout).Encode(total)
}

// sum is the size of all chunks.
func (s *store) sum() (sum int64) {
	for _, k := range s.files {
		sum += k.size
	}
	return sum
}

// speak says n lines as services and web servers do.
func (l *life) speak(n int, text *int64) error {
	for range n {
		l.said++
		i := uint32(l.said) * 2654435761
		at := time.Duration(l.said) * 10 * time.Second
		e := entry.Entry{
			Kind: web.Kind, Name: web.Name, Stream: web.Stream, Priority: 6, PID: 7, Time: time.Unix(1_800_000_000,
				0).Add(at), Boottime: at,
		}
		message := fmt.Sprintf("10.0.%d.%d \"GET /api/v1/items/%d HTTP/1.1\" 200 %d bytes in %d.%03d ms", i>>24,
			i>>16&255, i%9973, i%40_000, i%90, i%1000)
		if i%5 == 0 {
			e.Kind, e.Name, e.Stream = netd.Kind, netd.Name, netd.Stream
			message = fmt.Sprintf("lease renewed link=eth0 address=192.168.%d.%d/24 router=192.168.%d.1 after=%dm%ds",
				i>>8&3, i>>16&255, i>>8&3, i%60, i>>3%60)
		}
		if text != nil {
			*text += int64(len(message))
		}
		if err := l.ring.Append(&e, []byte(message), int64(l.said)); err != nil {
			return err
		}
	}
	return l.ring.Commit()
}

func syncAll(mount string) error {
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	_, _, failed := unix.Syscall(unix.SYS_SYNCFS, f.Fd(), 0, 0)
	if failed != 0 {
		err = failed
	}
	return errors.Join(err, f.Close())
}

// written is how many bytes the disk under mount has been given (Documentation/block/stat.rst: field 7 counts sectors
// of 512).
func written(mount string) (int64, error) {
	mounts, err := attach.ReadMounts()
	if err != nil {
		return 0, err
	}
	m, _ := attach.At(mounts, mount)
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", m.Major, m.Minor))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 7 {
		return 0, fmt.Errorf("parse block statistics %q", text)
	}
	var sectors int64
	_, err = fmt.Sscan(fields[6], &sectors)
	return sectors * 512, err
}
