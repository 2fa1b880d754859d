package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Loader loads modules into the running kernel. Several goroutines may use it.
type Loader struct {
	index *Index
	load  func(file, params string) error

	mu    sync.Mutex // guards tried
	tried map[string]error
}

// NewLoader returns a loader of the modules in index.
func NewLoader(index *Index) *Loader {
	return &Loader{index: index, load: loadFile, tried: map[string]error{}}
}

// OpenRunning returns a loader of the running kernel's modules.
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

// Index returns the index of the loader.
func (l *Loader) Index() *Index { return l.index }

// Load loads the named module after everything it needs; it does nothing if the module is loaded or built in. A soft
// dependency that does not load is not an error; a hard one shows in the error of the module itself.
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

// loadAll loads the files in order. Only the last one decides; the errors of the others explain its failure.
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
			err = l.load(file, withUsual(NameOf(file), p))
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

// usual are parameters of modules that create links by themselves when they are loaded: bond0 and dummy0 would be there
// before anybody has asked for a link with this name. Other systems set the same in modprobe.d.
var usual = [...]struct{ module, params string }{
	{"bonding", "max_bonds=0"}, {"dummy", "numdummies=0"}, {"ifb", "numifbs=0"},
}

// withUsual returns the parameters with which a module is loaded. What a person asks for comes last, and counts.
func withUsual(module, params string) string {
	for _, u := range usual {
		if u.module == module {
			return strings.TrimSuffix(u.params+" "+params, " ")
		}
	}
	return params
}

// Serve loads every module for the device with this modalias. It returns the modules that it loaded now, and the errors
// of those that failed now: a module that failed before is not tried again, because many devices share a modalias.
func (l *Loader) Serve(modalias string) (loaded []string, err error) {
	names, err := l.index.Match(modalias)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, name := range names {
		files, err := l.index.Order(name)
		if err != nil || len(files) == 0 || l.knows(files[len(files)-1]) {
			continue // an alias of a module that the image does not have is a fault of the builder, not of the device
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

// Request loads what the kernel asks /sbin/modprobe for: the name of a module, or an alias such as "fs-vfat" or
// "nft-expr-nat". The error wraps fs.ErrNotExist if there is neither.
func (l *Loader) Request(name string) error {
	err := l.Load(name, "")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	matched, unread := l.index.Match(name)
	if unread != nil {
		return unread
	}
	if len(matched) == 0 {
		return err
	}
	var faults []error
	for _, m := range matched {
		faults = append(faults, l.Load(m, ""))
	}
	return errors.Join(faults...)
}

// loadFile calls finit_module(2); the kernel decompresses the file itself. A module that is loaded already is no error.
func loadFile(file, params string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) && loaded(file) {
		return nil // the initramfs had it, and the root has no second copy
	}
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	flags := 0
	if strings.HasSuffix(file, CompressedSuffix) {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), params, flags)
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return fmt.Errorf("finit_module %s: %w", file, err)
}

// loaded reports whether the module of a file is loaded.
func loaded(file string) bool {
	_, err := os.Stat("/sys/module/" + NameOf(file))
	return err == nil
}
