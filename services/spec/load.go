package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxFiles bounds a folder of service files.
const maxFiles = 16384

// LoadDir decodes every *.toml file of dir, in name order. A bad file costs only itself: its
// faults are in the second result and the good ones in the first. A missing folder is no error.
func LoadDir(fsys fs.FS, dir string) ([]Spec, []error) {
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var (
		specs []Spec
		errs  []error
	)
	if err != nil {
		errs = append(errs, fmt.Errorf("read services: %w", err))
	}
	if len(entries) > maxFiles {
		errs = append(errs, fmt.Errorf("read services: %s holds %d files, only the first %d are used", dir, len(entries), maxFiles))
		entries = entries[:maxFiles]
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || path.Ext(e.Name()) != ".toml" {
			continue
		}
		s, err := load(fsys, path.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		specs = append(specs, s)
	}
	return specs, errs
}

func load(fsys fs.FS, file string) (Spec, error) {
	info, err := fs.Stat(fsys, file)
	if err != nil {
		return Spec{}, fmt.Errorf("read service: %w", err)
	}
	if !info.Mode().IsRegular() { // a FIFO here would hold up the boot
		return Spec{}, Faults{{File: file, Text: "is no regular file", Hint: "remove it"}}
	}
	f, err := fsys.Open(file)
	if err != nil {
		return Spec{}, fmt.Errorf("read service: %w", err)
	}
	defer f.Close() // opened for reading: nothing to lose
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Spec{}, fmt.Errorf("read service: %w", err)
	}
	return Parse(file, data)
}
