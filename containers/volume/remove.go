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
	"resinos/mounts/attach"
)

// removed begins the name of the directory of an app whose volumes are being removed; no app's own name begins so.
const removed = ".removed-"

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
	aside := filepath.Join(v.Dir, removed+name)
	if err := os.RemoveAll(aside); err != nil { // of a power cut
		return fmt.Errorf("remove volumes of app %s: %w", name, err)
	}
	creating.Lock() // not longer: the content may be large, and other apps need their volumes
	err = os.Rename(dir, aside)
	creating.Unlock()
	if err != nil {
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
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	mounts, err := attach.ReadMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Target == dir || strings.HasPrefix(m.Target, dir+"/") {
			return fmt.Errorf("a file system is mounted on %s: unmount it first", m.Target)
		}
	}
	return nil
}
