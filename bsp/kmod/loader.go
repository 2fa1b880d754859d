package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Loader loads modules into the running kernel. It may be used by several goroutines.
type Loader struct {
	index *Index
	load  func(file, params string) error

	mu    sync.Mutex // guards tried
	tried map[string]error
}

// NewLoader makes a loader of the modules in index.
func NewLoader(index *Index) *Loader {
	return &Loader{index: index, load: loadFile, tried: map[string]error{}}
}

// OpenRunning reads the index of the running kernel's modules and makes a loader of them.
func OpenRunning() (*Loader, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("find kernel release: %w", err)
	}
	index, err := Open("/usr/lib/modules/" + unix.ByteSliceToString(name.Release[:]))
	if err != nil {
		return nil, err
	}
	return NewLoader(index), nil
}

// Index is what the loader loads from.
func (l *Loader) Index() *Index { return l.index }

// Load loads the named module after all it needs; nothing happens if it is loaded or built in. A soft dependency that
// does not load is no fault, a hard one shows in the module's own error.
func (l *Loader) Load(name, params string) error {
	files, err := l.index.Order(name)
	if err != nil || len(files) == 0 {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.loadAll(files, params); err != nil {
		return fmt.Errorf("load module %s: %w", Name(name), err)
	}
	for _, after := range l.index.after(name) {
		if files, err := l.index.Order(after); err == nil {
			_ = l.loadAll(files, "") // soft: it may be missing or find no device
		}
	}
	return nil
}

// loadAll loads the files in order. Only the last one decides; the reasons of the others explain its failure.
func (l *Loader) loadAll(files []string, params string) error {
	var faults []error
	last := len(files) - 1
	for i, file := range files {
		p := ""
		if i == last {
			p = params
		}
		err, tried := l.tried[file]
		if !tried || err != nil && i == last {
			err = l.load(file, p)
			l.tried[file] = err
		}
		if err != nil {
			faults = append(faults, err)
		}
		if i == last && err == nil {
			return nil
		}
	}
	return errors.Join(faults...)
}

// Serve loads every module that serves the device with this modalias. It names what it loaded now, and joins the errors
// of those that failed now: a module that failed before is not tried again, since many devices share a modalias.
func (l *Loader) Serve(modalias string) (loaded []string, err error) {
	var faults []error
	for _, name := range l.index.Match(modalias) {
		files, err := l.index.Order(name)
		if err != nil || len(files) == 0 || l.knows(files[len(files)-1]) {
			continue // an alias of a module that is not carried is a fault of the builder, not of the device
		}
		if err := l.Load(name, ""); err != nil {
			faults = append(faults, err)
			continue
		}
		loaded = append(loaded, name)
	}
	return loaded, errors.Join(faults...)
}

func (l *Loader) knows(file string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, tried := l.tried[file]
	return tried
}

// Request is what the kernel asks /sbin/modprobe for: a module's name, or an alias such as "fs-vfat" or "nft-expr-nat".
// The error wraps fs.ErrNotExist if neither is known.
func (l *Loader) Request(name string) error {
	err := l.Load(name, "")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	matched := l.index.Match(name)
	if len(matched) == 0 {
		return err
	}
	var faults []error
	for _, m := range matched {
		faults = append(faults, l.Load(m, ""))
	}
	return errors.Join(faults...)
}

// loadFile is finit_module(2). A module that is there already is fine.
func loadFile(file, params string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // read only: closing cannot lose anything
	err = unix.FinitModule(int(f.Fd()), params, 0)
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return fmt.Errorf("finit_module %s: %w", file, err)
}
