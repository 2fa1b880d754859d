// Package appfiles owns the directory of apps: which apps there are and what each of them wants, which container images
// are in their files, and the watch that reports changes. It never parses compose files (package load runs the program
// that does) and knows nothing of running containers. Read Apps first.
package appfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"resinos/containers/app"
	"resinos/containers/load"
	"resinos/containers/plan"
)

// errNoFile is the error of an app without a compose file: its containers are not wanted any more.
var errNoFile = errors.New("it has no compose file")

// Apps is the content of the directory of apps.
type Apps struct {
	Wanted []plan.Want
	Alone  []string // apps that cannot be read or parsed
	Faults map[string]error
	Down   []string // apps that a person took down: none of their containers is wanted
	Images []string // of those apps: they stay for the next up
}

// Why returns why an app cannot be read, on one line.
func (f Apps) Why(name string) string {
	var faults app.Faults
	switch err := f.Faults[name]; {
	case err == nil:
		return "see the manager's log"
	case errors.As(err, &faults) && len(faults) > 1:
		return fmt.Sprintf("%v, and %d more", faults[0], len(faults)-1)
	default:
		return err.Error()
	}
}

// Loader loads an app from its files (load.Loader).
type Loader interface {
	// Load returns the app in dir. The error is that of the loader, and wraps load.ErrBusy while a file is being
	// written.
	Load(ctx context.Context, name, dir string) (load.Result, error)
	// Forget removes the kept results of apps that do not exist any more.
	Forget(there func(name string) bool) error
}

// Read loads every app below dir. An app with a fault is logged and does not affect the others; an app whose files are
// being written stays as it was before. If the directory cannot be listed, nothing is known of any app, and Read fails.
func Read(ctx context.Context, l Loader, dir string, before Apps, log *slog.Logger) (Apps, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Apps{}, nil
	}
	if err != nil {
		return Apps{}, fmt.Errorf("list apps: %w", err)
	}
	out := Apps{Faults: map[string]error{}}
	there := map[string]bool{}
	shared, err := readPreloads(filepath.Join(filepath.Dir(dir), "images"), log)
	if err != nil {
		return Apps{}, fmt.Errorf("read preloaded container images: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || name == "lost+found" {
			continue
		}
		if !e.IsDir() {
			log.Warn("not an app, only a directory is one", "path", filepath.Join(dir, name))
			continue
		}
		there[name] = true
		wanted, err := readApp(ctx, l, filepath.Join(dir, name), shared, log)
		switch {
		case err == nil:
			out.Wanted = append(out.Wanted, wanted...)
		case errors.Is(err, errNoFile):
			log.Warn("not an app", "app", name, "error", err)
		case errors.Is(err, load.ErrBusy):
			log.Info("app is left as it is", "app", name, "error", err)
			out.keep(name, before)
		default:
			out.Alone = append(out.Alone, name)
			out.Faults[name] = err
			logFaults(log, name, err)
		}
	}
	if err := l.Forget(func(name string) bool { return there[name] }); err != nil {
		log.Warn("results of removed apps not removed", "error", err)
	}
	return out, nil
}

// keep copies what was known of an app before.
func (f *Apps) keep(name string, before Apps) {
	known := false
	for _, w := range before.Wanted {
		if w.App == name {
			f.Wanted, known = append(f.Wanted, w), true
		}
	}
	if !known {
		f.Alone = append(f.Alone, name)
	}
	if err := before.Faults[name]; err != nil {
		f.Faults[name] = err
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

func readApp(ctx context.Context, l Loader, dir string, shared []plan.Preload,
	log *slog.Logger) ([]plan.Want, error) {
	name := filepath.Base(dir)
	if !hasCompose(dir) {
		return nil, fmt.Errorf("find %s in %s: %w", strings.Join(load.ComposeFiles(), ", "), dir, errNoFile)
	}
	r, err := l.Load(ctx, name, dir)
	if errors.Is(err, load.ErrNotKept) {
		log.Warn("parsed files of app not saved", "app", name, "error", err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	for _, w := range r.Warnings {
		log.Warn("files of app have a warning", "app", name, "warning", w)
	}
	if len(r.Faults) > 0 {
		return nil, r.Faults
	}
	preloads, err := readPreloads(filepath.Join(dir, "images"), log)
	if err != nil {
		return nil, err
	}
	for _, p := range shared {
		p.First = true
		preloads = append(preloads, p) // the app's own files come first
	}
	wanted := make([]plan.Want, len(r.App.Containers))
	for i, c := range r.App.Containers {
		wanted[i].Container = c
		if j := slices.IndexFunc(preloads, func(p plan.Preload) bool { return p.Name == c.Image }); j >= 0 {
			wanted[i].Preload = &preloads[j]
		}
	}
	return wanted, nil
}

// hasCompose reports whether the directory has a compose file.
func hasCompose(dir string) bool {
	return slices.ContainsFunc(load.ComposeFiles(), func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

// readPreloads reads the image files of an app. A file with a fault is logged and left out: the image is then pulled. A
// file that is being written is an error, because it will soon be complete.
func readPreloads(dir string, log *slog.Logger) ([]plan.Preload, error) {
	if info, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []plan.Preload
	for _, e := range files {
		if !strings.HasSuffix(e.Name(), ".tar") {
			continue
		}
		found, err := readPreload(filepath.Join(dir, e.Name()))
		if errors.Is(err, load.ErrBusy) {
			return nil, err
		}
		if err != nil {
			log.Error("preloaded image not read", "path", filepath.Join(dir, e.Name()), "error", err)
		}
		out = append(out, found...)
	}
	return out, nil
}
