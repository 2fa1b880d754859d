package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
)

// removed begins the name of the directory of an app whose volumes are being removed; no app's own name begins so.
const removed = ".removed-"

// Of lists the volumes of an app that are there, by their names.
func (v Volumes) Of(name string) ([]string, error) {
	if !app.ValidName(name) {
		return nil, fmt.Errorf("%q is no name of an app", name)
	}
	entries, err := os.ReadDir(filepath.Join(v.Dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list volumes of app %s: %w", name, err)
	}
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Remove removes all volumes of an app, which has no containers. They are gone at once and for ever, also if the power
// is cut while their content is being removed: Sweep does the rest. Where something else is mounted inside of them,
// nothing is removed.
func (v Volumes) Remove(name string) error {
	if !app.ValidName(name) {
		return fmt.Errorf("%q is no name of an app", name)
	}
	dir := filepath.Join(v.Dir, name)
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && !info.IsDir():
		err = fmt.Errorf("%s is not a directory: remove it", dir)
	case err == nil:
		err = unmounted(dir)
	}
	if err != nil {
		return fmt.Errorf("remove volumes of app %s: %w", name, err)
	}
	creating.Lock()
	defer creating.Unlock()
	aside := filepath.Join(v.Dir, removed+name)
	if err := os.RemoveAll(aside); err != nil { // of a power cut
		return fmt.Errorf("remove volumes of app %s: %w", name, err)
	}
	if err := os.Rename(dir, aside); err != nil {
		return fmt.Errorf("remove volumes of app %s: %w", name, err)
	}
	return errors.Join(atomicfile.Disk{}.SyncDir(v.Dir), os.RemoveAll(aside))
}

// Sweep removes what an interrupted Remove has left.
func (v Volumes) Sweep() error {
	entries, err := os.ReadDir(v.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removed) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(v.Dir, e.Name())))
		}
	}
	return err
}

// unmounted checks that nothing is mounted at or below dir: its content would be removed too.
func unmounted(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		if at == dir || strings.HasPrefix(at, dir+"/") {
			return fmt.Errorf("a file system is mounted on %s: unmount it first", at)
		}
	}
	return nil
}
