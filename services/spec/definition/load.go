package definition

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"resinos/services/spec"
	"resinos/services/spec/keys"
)

// maxFiles bounds a directory of service files.
const maxFiles = 16384

// Layer is a directory of service files. A file of a later layer changes the service of its name
// key by key, and the tables environment and rlimits name by name.
type Layer struct {
	FS   fs.FS
	Dir  string // in FS
	Path string // what messages call Dir, "/etc/resinos/services"; empty is Dir itself
	Only string // if set: the one file that is looked for
}

// Load decodes every *.toml file of the layers, the lowest first, and gives the services in name
// order. A bad file costs only itself: its faults are in the second result, and what the layers
// below it say stays in force. A missing directory is no error.
func Load(layers ...Layer) ([]spec.Spec, []error) {
	files, errs := collect(layers)
	specs := make([]spec.Spec, 0, len(files))
	for len(files) > 0 {
		n := 1
		for n < len(files) && files[n].name == files[0].name {
			n++
		}
		s, _, faults, ok := stack(files[:n])
		errs = append(errs, faults...)
		if ok {
			specs = append(specs, s)
		}
		files = files[n:]
	}
	return specs, errs
}

// file is one service file that was found and not yet read.
type file struct {
	layer Layer
	name  string
}

func (f file) path() string {
	if f.layer.Path == "" {
		return path.Join(f.layer.Dir, f.name)
	}
	return path.Join(f.layer.Path, f.name)
}

// collect finds the files of all layers, by name and the lowest layer first.
func collect(layers []Layer) (files []file, errs []error) {
	for _, l := range layers {
		if l.Only != "" {
			if _, err := fs.Stat(l.FS, path.Join(l.Dir, l.Only)); err == nil {
				files = append(files, file{l, l.Only})
			}
			continue
		}
		entries, err := fs.ReadDir(l.FS, l.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read services: %w", err))
		}
		if len(entries) > maxFiles {
			errs = append(errs, fmt.Errorf("read services: %s holds %d files, only the first %d are used",
				file{l, ""}.path(), len(entries), maxFiles))
			entries = entries[:maxFiles]
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") && path.Ext(e.Name()) == ".toml" {
				files = append(files, file{l, e.Name()})
			}
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, errs
}

// stack puts the files of one service on top of each other and leaves out the bad ones. ok is
// false when none is good.
func stack(files []file) (s spec.Spec, p parser, errs []error, ok bool) {
	for _, f := range files {
		data, err := f.read()
		if err == nil {
			over, next, faults := p.with(f.path(), data)
			if len(faults) == 0 {
				s, p, ok = over, next, true
				continue
			}
			err = faults
		}
		if ok {
			err = fmt.Errorf("%w\n%s: is not used, %s stays in force", err, f.path(), strings.Join(s.Files, " with "))
		}
		errs = append(errs, err)
	}
	return s, p, errs, ok
}

func (f file) read() ([]byte, error) {
	at := path.Join(f.layer.Dir, f.name)
	info, err := fs.Stat(f.layer.FS, at)
	if err != nil {
		return nil, fmt.Errorf("read service: %w", err)
	}
	if !info.Mode().IsRegular() { // a FIFO here would hold up the boot
		return nil, keys.Faults{{File: f.path(), Text: "is no regular file", Hint: "remove it"}}
	}
	r, err := f.layer.FS.Open(at)
	if err != nil {
		return nil, fmt.Errorf("read service: %w", err)
	}
	defer r.Close() // opened for reading: nothing to lose
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read service: %w", err)
	}
	return data, nil
}
