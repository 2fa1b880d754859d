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

	"resinos/containers/app"
)

const composeFile = "compose.yaml"

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

// readApps parses every app below dir. A bad app is logged and does not hinder the others; a
// folder that cannot be listed is an error, for then nothing is known of any app.
func readApps(dir string, log *slog.Logger) (folders, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return folders{}, nil
	}
	if err != nil {
		return folders{}, fmt.Errorf("list apps: %w", err)
	}
	out := folders{faults: map[string]error{}}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || e.Name() == "lost+found" {
			continue
		}
		wanted, err := readApp(filepath.Join(dir, e.Name()), log)
		if errors.Is(err, fs.ErrNotExist) {
			log.Warn("app has no compose file", "app", e.Name(), "file", filepath.Join(dir, e.Name(), composeFile))
			continue
		}
		if err != nil {
			out.alone = append(out.alone, e.Name())
			out.faults[e.Name()] = err
			logFaults(log, e.Name(), err)
			continue
		}
		out.wanted = append(out.wanted, wanted...)
	}
	return out, nil
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
	name, file := filepath.Base(dir), filepath.Join(dir, composeFile)
	data, err := os.ReadFile(file)
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
	preloads := readPreloads(filepath.Join(dir, "images"), log)
	wanted := make([]Want, len(a.Containers))
	for i, c := range a.Containers {
		wanted[i].Container = c
		if j := slices.IndexFunc(preloads, func(p Preload) bool { return p.Name == c.Image }); j >= 0 {
			wanted[i].Preload = &preloads[j]
		}
	}
	return wanted, nil
}

// readPreloads looks into the image files of an app. A bad one is logged and left out: the image
// is then pulled.
func readPreloads(dir string, log *slog.Logger) []Preload {
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return nil // only a malformed pattern fails
	}
	var out []Preload
	for _, file := range files {
		found, err := readPreload(file)
		if err != nil {
			log.Error("preloaded image not read", "file", file, "error", err)
		}
		out = append(out, found...)
	}
	return out
}
