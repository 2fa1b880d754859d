package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/mounts/plainfile"
)

// composeFiles are the names that the compose specification allows, the preferred one first.
var composeFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"}

// errBusy is of a file that somebody has open for writing. What it holds now is not what it will hold.
var errBusy = errors.New("it is being written")

// errNoFile is of an app without a compose file: its containers are not wanted any more.
var errNoFile = errors.New("it has no compose file")

// folders is what the folder of apps holds.
type folders struct {
	wanted []Want
	alone  []string // apps that cannot be read or parsed
	faults map[string]error
}

// why is what keeps an app from being read, on one line.
func (f folders) why(name string) string {
	var faults app.Faults
	switch err := f.faults[name]; {
	case err == nil:
		return "see the manager's log"
	case errors.As(err, &faults) && len(faults) > 1:
		return fmt.Sprintf("%v, and %d more", faults[0], len(faults)-1)
	default:
		return err.Error()
	}
}

// readApps parses every app below dir. A bad app is logged and does not hinder the others; one that is
// being written stays as it was before. A folder that cannot be listed is an error, for then nothing is
// known of any app.
func readApps(dir string, before folders, log *slog.Logger) (folders, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return folders{}, nil
	}
	if err != nil {
		return folders{}, fmt.Errorf("list apps: %w", err)
	}
	out := folders{faults: map[string]error{}}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == "lost+found" {
			continue
		}
		if !e.IsDir() {
			log.Warn("not an app, only a directory is one", "path", filepath.Join(dir, name))
			continue
		}
		wanted, err := readApp(filepath.Join(dir, name), log)
		switch {
		case err == nil:
			out.wanted = append(out.wanted, wanted...)
		case errors.Is(err, errNoFile):
			log.Warn("not an app", "app", name, "error", err)
		case errors.Is(err, errBusy):
			log.Info("app is left as it is", "app", name, "error", err)
			out.keep(name, before)
		default:
			out.alone = append(out.alone, name)
			out.faults[name] = err
			logFaults(log, name, err)
		}
	}
	return out, nil
}

// keep takes what was known of an app before.
func (f *folders) keep(name string, before folders) {
	known := false
	for _, w := range before.wanted {
		if w.App == name {
			f.wanted, known = append(f.wanted, w), true
		}
	}
	if !known {
		f.alone = append(f.alone, name)
	}
	if err := before.faults[name]; err != nil {
		f.faults[name] = err
	}
}

func logFaults(log *slog.Logger, name string, err error) {
	var faults app.Faults
	if !errors.As(err, &faults) {
		log.Error("app not read", "app", name, "error", err)
		return
	}
	for _, f := range faults {
		log.Error("app not understood", "app", name, "error", f)
	}
}

func readApp(dir string, log *slog.Logger) ([]Want, error) {
	name := filepath.Base(dir)
	file, err := findCompose(dir, log)
	if err != nil {
		return nil, err
	}
	data, err := readSettled(file)
	if err != nil {
		return nil, err
	}
	a, warnings, err := app.Parse(name, file, data)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log.Warn("app asks for what is not there", "app", name, "warning", w)
	}
	preloads, err := readPreloads(filepath.Join(dir, "images"), log)
	if err != nil {
		return nil, err
	}
	wanted := make([]Want, len(a.Containers))
	for i, c := range a.Containers {
		wanted[i].Container = c
		if j := slices.IndexFunc(preloads, func(p Preload) bool { return p.Name == c.Image }); j >= 0 {
			wanted[i].Preload = &preloads[j]
		}
	}
	return wanted, nil
}

// findCompose returns the compose file of an app. The error wraps fs.ErrNotExist if it has none.
func findCompose(dir string, log *slog.Logger) (string, error) {
	var found []string
	for _, name := range composeFiles {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			found = append(found, name)
		}
		override := strings.Replace(name, ".y", ".override.y", 1)
		if _, err := os.Lstat(filepath.Join(dir, override)); err == nil {
			return "", fmt.Errorf("%s: files are not merged; write what it changes into %s and remove it", filepath.Join(dir, override), composeFiles[0])
		}
	}
	if len(found) == 0 {
		return "", fmt.Errorf("find %s in %s: %w", strings.Join(composeFiles, ", "), dir, errNoFile)
	}
	if len(found) > 1 {
		log.Warn("several compose files, the first counts", "app", filepath.Base(dir), "path", strings.Join(found, " "))
	}
	return filepath.Join(dir, found[0]), nil
}

// readSettled returns what a compose file holds. It wraps errBusy while somebody writes it.
func readSettled(file string) ([]byte, error) {
	f, err := plainfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read; gives the lease back too
	if err := lease(f); err != nil {
		return nil, err
	}
	return plainfile.ReadAll(f, app.MaxSize)
}

// lease keeps writers out of a file until it is closed, or wraps errBusy if there is one. Half a compose
// file can be a good one that lacks services, and their containers would be deleted. A file system that
// knows no leases (fcntl(2)) has no writer that we could tell.
func lease(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("read %s: %w", f.Name(), errBusy)
	}
	return nil
}

// readPreloads looks into the image files of an app. A bad one is logged and left out: the image
// is then pulled. One that is being written is an error, for it will be there soon.
func readPreloads(dir string, log *slog.Logger) ([]Preload, error) {
	if info, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []Preload
	for _, e := range files {
		if !strings.HasSuffix(e.Name(), ".tar") {
			continue
		}
		found, err := readPreload(filepath.Join(dir, e.Name()))
		if errors.Is(err, errBusy) {
			return nil, err
		}
		if err != nil {
			log.Error("preloaded image not read", "path", filepath.Join(dir, e.Name()), "error", err)
		}
		out = append(out, found...)
	}
	return out, nil
}
