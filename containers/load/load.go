// Package load loads the compose files of apps for the manager: when a file that an app was read from has changed, it
// starts the program containers/compose, passes those files and no others to the program, and keeps the result with the
// digest of each file. The program has no rights and no view of the file system; its result is checked, and whatever
// happens to the program, the app stays as it was. Read Loader first.
package load

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/mounts/packed"
	"resinos/mounts/plainfile"
)

// ErrBusy is of a file that somebody has open for writing. What it holds now is not what it will hold.
var ErrBusy = errors.New("it is being written")

const (
	// MaxFile is how many bytes a file may have that an app is read from: what is longer was not written by a person.
	MaxFile = 256 << 10
	// maxTotal is the same for all files of an app.
	maxTotal = 2 << 20
	// maxReads is how many files a program may ask for.
	maxReads = 512
)

// ComposeFiles are the names that the compose specification allows, the preferred one first.
func ComposeFiles() []string {
	return []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}
}

// Result is what loading an app came to.
type Result struct {
	App      app.App
	Faults   app.Faults `json:",omitempty"` // with any, there is no App
	Warnings app.Faults `json:",omitempty"`
	Sources  []Source   // that it was read from, also those that were not there
}

// Source is one file that an app was read from.
type Source struct {
	Name   string // relative to the app's directory
	Digest string // of its content; empty: there was none
	Error  string `json:",omitempty"` // why it could not be read
}

// readSource reads a file of the app in dir. It wraps ErrBusy while somebody writes it.
func readSource(dir, name string) ([]byte, Source, error) {
	data, err := ReadFile(dir, name)
	s := Source{Name: name}
	switch {
	case errors.Is(err, ErrBusy):
		return nil, s, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, s, err
	case err != nil:
		s.Error = err.Error()
		return nil, s, err
	}
	return data, SourceOf(name, data), nil
}

// SourceOf returns what is noted of a file with this content.
func SourceOf(name string, content []byte) Source { return Source{Name: name, Digest: digest(content)} }

// ReadFile reads a regular file below dir that lies there itself and is not large, or wraps ErrBusy.
func ReadFile(dir, name string) ([]byte, error) {
	f, err := plainfile.OpenBelow(dir, name)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read; gives the lease back too
	if err := Lease(f); err != nil {
		return nil, err
	}
	return plainfile.ReadAll(f, MaxFile)
}

// Lease keeps writers out of a file until it is closed, or wraps ErrBusy if there is one. Half a compose
// file can be a good one that lacks services, and their containers would be deleted. A file system that
// knows no leases (fcntl(2)) has no writer that we could tell.
func Lease(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("read %s: %w", f.Name(), ErrBusy)
	}
	return nil
}

// Loader loads apps. Its fields are set before the first use.
type Loader struct {
	Program packed.Program // compose
	Kept    string         // directory of results that outlive the boot; empty: none
	last    map[string]Result
	limit   time.Duration // of the life of a program; 0: patience
}

// Load returns what the app in dir, an absolute path, is now. The error is of loading itself; what is wrong with the
// app's files are faults in the result.
func (l *Loader) Load(ctx context.Context, name, dir string) (Result, error) {
	if l.last == nil {
		l.last = map[string]Result{}
	}
	known, ok := l.last[name]
	if !ok {
		known, ok = l.recall(name)
	}
	if ok {
		same, err := unchanged(known, dir)
		if err != nil {
			return Result{}, err
		}
		if same {
			l.last[name] = known
			return known, nil
		}
	}
	delete(l.last, name)
	r, err := l.run(ctx, name, dir)
	if err != nil {
		return Result{}, fmt.Errorf("load %s: %w", dir, err)
	}
	l.last[name] = r
	return r, l.keep(name, r)
}

// unchanged reports whether the app's files are as they were when it was loaded.
func unchanged(r Result, dir string) (bool, error) {
	for _, s := range r.Sources {
		_, now, err := readSource(dir, s.Name)
		if errors.Is(err, ErrBusy) {
			return false, err
		}
		if now != s {
			return false, nil
		}
	}
	return true, nil
}

// check refuses what a sane program does not say: it has parsed what anybody may have written.
func (r Result) check(name string) error {
	if len(r.Faults) > 0 {
		return nil
	}
	if r.App.Name != name {
		return fmt.Errorf("the result is of app %q", r.App.Name)
	}
	for _, c := range r.App.Containers {
		if c.App != name || !app.ValidName(c.Service) || c.Image == "" || c.Number < 0 {
			return fmt.Errorf("the result has a container %q of app %q, image %q", c.Service, c.App, c.Image)
		}
	}
	return nil
}
