package load

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Reader reads the files that an app is loaded from, within bounds, and notes what each of them was.
type Reader struct {
	Open    func(name string) ([]byte, Source, error) // reads one file; wraps fs.ErrNotExist, and ErrBusy
	Sources []Source                                  // what was read, in order, each once
	Refused error                                     // why the app cannot be loaded, whatever the loader makes of it
	reads   int
	total   int
}

// Read reads one file of the app. The error is of that file, or Refused.
func (r *Reader) Read(name string) ([]byte, error) {
	if r.reads++; r.reads > maxReads {
		return nil, r.refuse(fmt.Errorf("it is read from more than %d files: write fewer", maxReads))
	}
	if !filepath.IsLocal(name) {
		return nil, r.refuse(fmt.Errorf("the program asked for %q", name))
	}
	data, source, err := r.Open(name)
	if errors.Is(err, ErrBusy) {
		return nil, r.refuse(err)
	}
	if r.total += len(data); r.total > maxTotal {
		return nil, r.refuse(fmt.Errorf("the files are larger than %d KiB together: shorten them", maxTotal>>10))
	}
	for _, s := range r.Sources {
		if s.Name == name {
			return data, err
		}
	}
	r.Sources = append(r.Sources, source)
	return data, err
}

func (r *Reader) refuse(err error) error {
	r.Refused = err
	return err
}
