package kmod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// An Index answers questions from the index files of one kernel release. It searches the sorted text without parsing
// it, so opening costs reading the files, and a question costs a few comparisons.
type Index struct {
	dir     string
	dep     []byte
	softdep []byte
	builtin []byte
	devname []byte

	mu    sync.Mutex // guards alias
	alias []byte     // read when it is first needed: it is the largest, and those that load by name need none
}

// Open reads the index in dir, such as /usr/lib/modules/RELEASE. Only modules.dep must exist.
func Open(dir string) (*Index, error) {
	x := &Index{dir: dir}
	for _, f := range []struct {
		name string
		into *[]byte
	}{{depFile, &x.dep}, {softdepFile, &x.softdep}, {builtinFile, &x.builtin}, {devnameFile, &x.devname}} {
		text, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil && (f.name == depFile || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("open module index: %w", err)
		}
		*f.into = text
	}
	return x, nil
}

// Order lists the absolute paths of the files to load for the named module, in order; the last one is the module
// itself. The list is empty for a built-in module. The error wraps fs.ErrNotExist if the index does not know the
// module.
func (x *Index) Order(name string) ([]string, error) {
	name = Name(name)
	line, found := search(x.dep, pathName, name)
	if !found {
		if x.Builtin(name) {
			return nil, nil
		}
		return nil, fmt.Errorf("find module %s in %s: %w", name, x.dir, fs.ErrNotExist)
	}
	self, needs, _ := strings.Cut(string(line), ":")
	fields := strings.Fields(needs)
	files := make([]string, 0, len(fields)+1)
	for i := len(fields) - 1; i >= 0; i-- {
		files = append(files, filepath.Join(x.dir, fields[i]))
	}
	return append(files, filepath.Join(x.dir, self)), nil
}

// Builtin reports whether the named module is part of the kernel.
func (x *Index) Builtin(name string) bool {
	_, found := search(x.builtin, pathName, Name(name))
	return found
}

// after lists the modules to be loaded after the named one, if they can be.
func (x *Index) after(name string) []string {
	line, found := search(x.softdep, secondWord, Name(name))
	if !found {
		return nil
	}
	words := strings.Fields(string(line)) // softdep NAME post: NAME...
	if len(words) < 4 {
		return nil
	}
	return words[3:]
}

// Match lists the modules for a device with this modalias, or with exactly this alias. The error is of the file of
// aliases; the next question reads it again.
func (x *Index) Match(modalias string) ([]string, error) {
	text, err := x.aliases()
	if err != nil {
		return nil, err
	}
	m := matcher{text: text, modalias: Alias(modalias)}
	m.narrow()
	return m.names, nil
}

// aliases reads the file of aliases at the first call. A kernel without one has none.
func (x *Index) aliases() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.alias == nil {
		text, err := os.ReadFile(filepath.Join(x.dir, aliasFile))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			text = []byte{}
		case err != nil:
			return nil, fmt.Errorf("read module aliases: %w", err)
		}
		x.alias = text
	}
	return x.alias, nil
}

// Nodes lists the device nodes that must exist so that opening one loads its module.
func (x *Index) Nodes() []Node {
	var all []Node
	for line := range strings.Lines(string(x.devname)) {
		var module, name, kind string
		var n Node
		if _, err := fmt.Sscanf(line, "%s %s %1s%d:%d", &module, &name, &kind, &n.Major, &n.Minor); err != nil ||
			!filepath.IsLocal(name) {
			continue
		}
		n.Name, n.Block = name, kind == "b"
		all = append(all, n)
	}
	return all
}

// search finds the line whose key is name in text, whose lines are sorted by key.
func search(text []byte, key func(line []byte) []byte, name string) (line []byte, found bool) {
	lo, hi := 0, len(text)
	for lo < hi {
		start, end := lineAt(text, lo+(hi-lo)/2)
		switch order := compareName(key(text[start:end]), name); {
		case order == 0:
			return text[start:end], true
		case order < 0:
			lo = min(end+1, hi)
		default:
			hi = start
		}
	}
	return nil, false
}

// lineAt finds the line around the byte at.
func lineAt(text []byte, at int) (start, end int) {
	start = bytes.LastIndexByte(text[:at], '\n') + 1
	end = bytes.IndexByte(text[at:], '\n')
	if end < 0 {
		return start, len(text)
	}
	return start, at + end
}

// pathName returns the name of the module in a line that begins with its path: "kernel/fs/fat/vfat.ko: ...".
func pathName(line []byte) []byte {
	if i := bytes.IndexByte(line, ':'); i >= 0 {
		line = line[:i]
	}
	base, _, _ := bytes.Cut(line[bytes.LastIndexByte(line, '/')+1:], []byte(".ko"))
	return base
}

func secondWord(line []byte) []byte {
	_, rest, _ := bytes.Cut(line, []byte{' '})
	word, _, _ := bytes.Cut(rest, []byte{' '})
	return word
}

// compareName orders names as the index does: - and _ are equal.
func compareName(raw []byte, name string) int {
	for i := range min(len(raw), len(name)) {
		c := raw[i]
		if c == '-' {
			c = '_'
		}
		if c != name[i] {
			return int(c) - int(name[i])
		}
	}
	return len(raw) - len(name)
}
