package workload

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

// errNoFile is of an app without a compose file: its containers are not wanted any more.
var errNoFile = errors.New("it has no compose file")

// folders is what the folder of apps holds.
type folders struct {
	wanted []plan.Want
	alone  []string // apps that cannot be read or parsed
	faults map[string]error
	down   []string // apps that a person took down: none of their containers is wanted
	images []string // of those apps: they stay for the next up
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

// Loader says what an app is (load.Loader).
type Loader interface {
	// Load returns what the app in dir is now; the error is of loading, and wraps load.ErrBusy while a file is written.
	Load(ctx context.Context, name, dir string) (load.Result, error)
	// Forget removes what is kept of apps that are not there.
	Forget(there func(name string) bool) error
}

// readApps loads every app below dir. A bad app is logged and does not hinder the others; one that is
// being written stays as it was before. A folder that cannot be listed is an error, for then nothing is
// known of any app.
func readApps(ctx context.Context, l Loader, dir string, before folders, log *slog.Logger) (folders, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return folders{}, nil
	}
	if err != nil {
		return folders{}, fmt.Errorf("list apps: %w", err)
	}
	out := folders{faults: map[string]error{}}
	there := map[string]bool{}
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
		wanted, err := readApp(ctx, l, filepath.Join(dir, name), log)
		switch {
		case err == nil:
			out.wanted = append(out.wanted, wanted...)
		case errors.Is(err, errNoFile):
			log.Warn("not an app", "app", name, "error", err)
		case errors.Is(err, load.ErrBusy):
			log.Info("app is left as it is", "app", name, "error", err)
			out.keep(name, before)
		default:
			out.alone = append(out.alone, name)
			out.faults[name] = err
			logFaults(log, name, err)
		}
	}
	if err := l.Forget(func(name string) bool { return there[name] }); err != nil {
		log.Warn("results of removed apps not removed", "error", err)
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

func readApp(ctx context.Context, l Loader, dir string, log *slog.Logger) ([]plan.Want, error) {
	name := filepath.Base(dir)
	if !hasCompose(dir) {
		return nil, fmt.Errorf("find %s in %s: %w", strings.Join(load.ComposeFiles(), ", "), dir, errNoFile)
	}
	r, err := l.Load(ctx, name, dir)
	if errors.Is(err, load.ErrNotKept) {
		log.Warn("what the app is, is not kept", "app", name, "error", err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	for _, w := range r.Warnings {
		log.Warn("app asks for what is not there", "app", name, "warning", w)
	}
	if len(r.Faults) > 0 {
		return nil, r.Faults
	}
	preloads, err := readPreloads(filepath.Join(dir, "images"), log)
	if err != nil {
		return nil, err
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

// hasCompose reports whether the directory is of an app.
func hasCompose(dir string) bool {
	return slices.ContainsFunc(load.ComposeFiles(), func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

// readPreloads looks into the image files of an app. A bad one is logged and left out: the image
// is then pulled. One that is being written is an error, for it will be there soon.
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
