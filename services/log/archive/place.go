package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
	"resinos/mounts/persist"
)

// The partition of the log, and the path at which people find it.
const (
	DataMount = "/mnt/data"
	ViewPath  = "/var/log/journal"
)

// ErrAbsent is wrapped by Place.Open's error when the file system is not attached, or cannot keep anything.
var ErrAbsent = errors.New("the data partition is not there")

// A Place is a directory that may not exist yet. It belongs to one goroutine.
type Place interface {
	// Open creates the directory if it is missing, and opens it. The caller closes it.
	Open() (*os.File, error)
	// Changed gets a value when Open, which has failed with ErrAbsent, may succeed now; nil before that.
	Changed() <-chan struct{}
	// Close ends the waiting, until Open is called again.
	Close()
}

// A Partition is a place on a partition: the directory root-overlay with View's path, as the persistent paths lie on
// the state partition, and View is bound to it. Nothing is created or bound before Open finds a real, writable file
// system at Mount.
type Partition struct {
	Mount string // DataMount if ""
	View  string // ViewPath if ""
	Log   *slog.Logger

	watch  *mountWatch // waits for a change; nil: nothing is waited for
	hidden bool        // that View cannot be bound was logged
}

// Dir returns the path of the directory.
func (p *Partition) Dir() string {
	return filepath.Join(cmp.Or(p.Mount, DataMount), persist.Overlay, cmp.Or(p.View, ViewPath))
}

// Changed implements Place.
func (p *Partition) Changed() <-chan struct{} {
	if p.watch == nil {
		return nil
	}
	return p.watch.changed
}

// Close implements Place.
func (p *Partition) Close() {
	if p.watch != nil {
		p.watch.close()
		p.watch = nil
	}
}

// Open implements Place.
func (p *Partition) Open() (*os.File, error) {
	p.Close()
	watch, err := watchMounts() // before the look, so that no change is missed
	if err != nil {
		return nil, err
	}
	dir, err := p.open(cmp.Or(p.Mount, DataMount), cmp.Or(p.View, ViewPath))
	if errors.Is(err, ErrAbsent) {
		p.watch = watch
		return nil, err
	}
	watch.close()
	return dir, err
}

func (p *Partition) open(mount, view string) (*os.File, error) {
	mounts, err := attach.ReadMounts()
	if err != nil {
		return nil, err
	}
	m, err := fit(mounts, mount)
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(mount, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: mount, Err: err}
	}
	defer unix.Close(root)
	// The opened directory is the checked one, whatever was mounted meanwhile.
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: mount, Err: err}
	}
	if unix.Major(st.Dev) != m.Major || unix.Minor(st.Dev) != m.Minor {
		return nil, fmt.Errorf("open %s: %w: another file system has come", mount, ErrAbsent)
	}
	hidden := bind(mount, view)
	dir, err := openDir(root, view)
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open log archive", Path: p.Dir(), Err: err}, hidden)
	}
	if hidden != nil && !p.hidden { // the log is kept nevertheless
		p.Log.Warn("log archive is not visible", "path", view, "error", hidden)
	}
	p.hidden = hidden != nil
	return os.NewFile(uintptr(dir), p.Dir()), nil
}

// bind creates the directory and binds it to view.
func bind(mount, view string) error {
	trees, err := persist.Open(mount, "/")
	if err != nil {
		return err
	}
	return errors.Join(trees.Apply(persist.Bind{Path: view, Kind: persist.Directory, Mode: 0o700}), trees.Close())
}

// openDir opens the directory of bind, never through a symlink, which a stranger may have put on the disk.
func openDir(root int, view string) (int, error) {
	return unix.Openat2(root, filepath.Join(persist.Overlay, view), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// fit returns the mount at target if it can keep a log: a writable file system on a disk. In place of a missing or
// broken partition, PID 1 mounts a tmpfs.
func fit(mounts []attach.Mount, target string) (attach.Mount, error) {
	m, found := attach.At(mounts, target)
	switch {
	case !found:
		return m, fmt.Errorf("open %s: %w", target, ErrAbsent)
	case m.Major == 0: // tmpfs, overlay and the like: no disk of their own
		return m, fmt.Errorf("open %s: %w: a %s stands in for it", target, ErrAbsent, m.Type)
	case has(m.Flags, "ro") || has(m.Super, "ro"):
		return m, fmt.Errorf("open %s: %w to be written: it is read-only", target, ErrAbsent)
	}
	return m, nil
}

func has(options, word string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == word {
			return true
		}
	}
	return false
}
