package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// noWait is the directory, below Dir, of scripts that nobody waits for: a link in Dir leads there.
const noWait = "no-wait.d"

// Script is one script that runs.
type Script struct {
	Path   string
	NoWait bool // the next one starts at once
}

// place is the directory of the scripts of an action.
func place(dir string, a Action) string {
	switch a {
	case PreUp:
		return filepath.Join(dir, "pre-up.d")
	case PreDown:
		return filepath.Join(dir, "pre-down.d")
	}
	return dir
}

// Any reports whether there is a file that may be a script, of any action.
func Any(dir string) bool {
	for _, d := range []string{dir, place(dir, PreUp), place(dir, PreDown)} {
		list, _ := os.ReadDir(d) // a directory that is not there has none
		for _, e := range list {
			if !e.IsDir() && named(e.Name()) {
				return true
			}
		}
	}
	return false
}

// Scripts returns those of an action in the order of their names, and why others are refused.
func Scripts(dir string, a Action) (scripts []Script, refused []error) {
	at := place(dir, a)
	entries, err := os.ReadDir(at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fmt.Errorf("read hooks: %w", err)}
	}
	for _, e := range entries { // sorted by name
		path := filepath.Join(at, e.Name())
		if e.IsDir() || !named(e.Name()) {
			continue
		}
		if err := judge(path); err != nil {
			refused = append(refused, fmt.Errorf("hook %s: %w", path, err))
			continue
		}
		scripts = append(scripts, Script{path, leadsTo(path, filepath.Join(at, noWait))})
	}
	return scripts, refused
}

// named reports whether a file is a script by its name: editors and package managers leave others behind.
func named(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	for _, suffix := range []string{"~", ".rpmsave", ".rpmorig", ".rpmnew", ".swp"} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	i := strings.LastIndex(name, ".dpkg-")
	return i < 0 || strings.Contains(name[i+1:], ".")
}

// judge returns why a script must not run: somebody else than root could have written it.
func judge(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return errors.New("no regular file")
	case !known || owner.Uid != 0:
		return errors.New("its owner is not root; try: chown root " + path)
	case mode.Perm()&0o022 != 0 || mode&fs.ModeSetuid != 0:
		return fmt.Errorf("others may write it, or it changes its user; try: chmod 755 %s", path)
	case mode.Perm()&0o100 == 0:
		return errors.New("not executable; try: chmod 755 " + path)
	}
	return nil
}

// leadsTo reports whether path is a link to a file in dir.
func leadsTo(path, dir string) bool {
	to, err := os.Readlink(path)
	if err != nil {
		return false
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(path), to)
	}
	return filepath.Dir(filepath.Clean(to)) == filepath.Clean(dir)
}
