// Package recorder records what programs of this host write to parts of a disk: it shows the parts as files of a FUSE
// file system, and each write and flush that reaches it becomes an entry of the recording's log. A loop device over a
// part gives a real file system whose writes are recorded. So the code of a device can be recorded without booting it.
// It never judges a disk. Read Part, then Start.
package recorder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"resinos/images/powercut/recording"
	"resinos/mounts/fat"
)

// A Part is a range of the disk that is shown as a file.
type Part struct {
	Name  string
	Start int64 // byte of the disk
	Size  int64
	// Entry is the byte of the disk at which the directory entry of a file on FAT lies; 0: it is no such file. The
	// kernel writes a new time into it before the flush that ends an fsync.
	Entry int64
}

// A Recorder is a disk at work.
type Recorder struct {
	Dir string // where the parts are

	recording *recording.Recording
	parts     []Part
	fuse      int
	disk      *os.File
	ended     chan error // the server has ended

	mu      sync.Mutex // guards the log and the faults
	log     *recording.LogWriter
	entries int // times that were written into directory entries
	faults  []error
}

// Start copies an image to a disk of its own below dir and shows its parts in the directory "parts" there. It needs
// root and a mount namespace of the caller's own. Stop ends it.
func Start(image, dir string, parts []Part) (*Recorder, error) {
	stat, err := os.Stat(image)
	if err != nil {
		return nil, err
	}
	r := &Recorder{Dir: filepath.Join(dir, "parts"), parts: parts, ended: make(chan error, 1),
		recording: &recording.Recording{Dir: dir, Image: image, Built: stat.ModTime(), Size: stat.Size(),
			MendsFAT: true}}
	name := filepath.Join(dir, "disk.img")
	if err := recording.CopyDisk(image, name, stat.Size()); err != nil {
		return nil, err
	}
	if r.disk, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if r.log, err = recording.CreateLog(filepath.Join(dir, recording.LogFile)); err != nil {
		return nil, errors.Join(err, r.disk.Close())
	}
	if err := r.attach(); err != nil {
		return nil, errors.Join(err, r.log.Close(), r.disk.Close())
	}
	go func() { r.ended <- r.serve() }()
	return r, nil
}

func (r *Recorder) attach() (err error) {
	if err := os.Mkdir(r.Dir, 0o755); err != nil {
		return err
	}
	if r.fuse, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0", r.fuse)
	if err := unix.Mount("recorder", r.Dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return errors.Join(fmt.Errorf("mount FUSE at %s: %w", r.Dir, err), unix.Close(r.fuse))
	}
	return nil
}

// Section begins a new section of the recording.
func (r *Recorder) Section(s recording.Section) {
	s.From = r.position()
	r.recording.Sections = append(r.recording.Sections, s)
}

// Promise records that from now on a fact is one of the values.
func (r *Recorder) Promise(fact string, values ...string) {
	r.recording.Promises = append(r.recording.Promises,
		recording.Promise{From: r.position(), Fact: fact, Values: values})
}

func (r *Recorder) position() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Position()
}

// Released reports whether no loop device uses a part any more. The kernel detaches a loop device a moment after its
// last user has closed it, and every program that looks at all disks of the host is a user for that time.
func (r *Recorder) Released() bool {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is a constant
	return !slices.ContainsFunc(files, func(file string) bool {
		name, err := os.ReadFile(file) // gone: detached meanwhile
		return err == nil && strings.HasPrefix(string(name), r.Dir+"/")
	})
}

// Stop detaches the parts, which nobody may have open any more (Released), and returns the recording.
func (r *Recorder) Stop() (*recording.Recording, error) {
	err := unix.Unmount(r.Dir, 0)
	if err != nil {
		return nil, fmt.Errorf("unmount %s: %w", r.Dir, err)
	}
	err = errors.Join(<-r.ended, unix.Close(r.fuse), r.log.Close(), r.disk.Close())
	err = errors.Join(append(r.faults, err, r.recording.Save())...)
	return r.recording, err
}

// Loop attaches a loop device to a part. It is detached when the returned file is closed and nothing else, such as a
// mount, uses it. Programs that are started while a file of a part is open may hang: the kernel asks this process to
// close it, which waits for the start.
func (r *Recorder) Loop(name string) (*os.File, error) {
	part, err := os.OpenFile(filepath.Join(r.Dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer part.Close() // the loop device holds it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprint("/dev/loop", number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(part.Fd()), Size: recording.SectorSize,
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		if loop.Close(); !errors.Is(err, unix.EBUSY) { // somebody else was quicker
			return nil, fmt.Errorf("attach %s to %s: %w", name, loop.Name(), err)
		}
	}
}

// write puts data at a byte of a part. The log has whole sectors, as a disk writes them.
func (r *Recorder) write(p Part, at int64, data []byte) error {
	if at < 0 || at+int64(len(data)) > p.Size {
		return unix.ENOSPC
	}
	return r.put(p.Start+at, data)
}

func (r *Recorder) put(at int64, data []byte) error {
	const sector = recording.SectorSize
	if _, err := r.disk.WriteAt(data, at); err != nil {
		return err
	}
	from := at / sector * sector
	whole := make([]byte, (at+int64(len(data))+sector-1)/sector*sector-from)
	if _, err := r.disk.ReadAt(whole, from); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(from/sector, whole)
}

// sync is an fsync of a part.
func (r *Recorder) sync(p Part) error {
	if p.Entry > 0 {
		const modified = 22 // u16 time, u16 date (Microsoft FAT specification, section 6)
		r.entries++
		if err := r.put(p.Entry+modified, binary.LittleEndian.AppendUint16(nil, uint16(r.entries))); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Flush()
}

// FATFile returns the part of the disk that a file of a FAT has. The FAT begins at byte start of the disk. The content
// of the file must lie in one piece. The error wraps fs.ErrNotExist if there is no such file.
func FATFile(disk io.ReaderAt, start int64, file string) (Part, error) {
	files, err := fat.Open(io.NewSectionReader(disk, start, math.MaxInt64-start))
	if err != nil {
		return Part{}, err
	}
	pieces, entry, err := files.Extents(file)
	if err != nil {
		return Part{}, err
	}
	if len(pieces) != 1 {
		return Part{}, fmt.Errorf("find %s: it has %d pieces", file, len(pieces))
	}
	return Part{Name: file, Start: start + pieces[0].At, Size: pieces[0].Size, Entry: start + entry}, nil
}
