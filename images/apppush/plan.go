// Package apppush builds the container images of an app on a device and makes the app run there, for the command resin
// push. The stock docker client reads the compose file and builds, on the device's own Docker daemon; all connections
// go through ssh. The package decides which parts of the compose file the device gets, and which files with them. Read
// NewPlan first.
package apppush

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Plan is what the device gets.
type Plan struct {
	App     string   // name of the app
	Compose []byte   // its compose file, which builds nothing
	Images  []string // that are built on the device
	Files   []string // what the compose file uses of the app's directory, relative to it, sorted
}

// validApp is what the device takes as the name of an app (containers/app); it needs no quotes in a shell.
var validApp = regexp.MustCompile(`^[a-z0-9]+([-_][a-z0-9]+)*$`)

// validImage are the characters of names of images; none of them means anything to a shell.
var validImage = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)

// NewPlan works out what the device gets of the app in the directory dir, whose compose file docker compose config has
// printed: variables replaced, files merged, all paths absolute. All faults are reported at once.
func NewPlan(config []byte, dir string) (Plan, error) {
	var model map[string]any
	if err := yaml.Unmarshal(config, &model); err != nil {
		return Plan{}, fmt.Errorf("read what docker compose config says: %w", err)
	}
	w := writer{dir: dir}
	w.plan.App, _ = model["name"].(string)
	if !validApp.MatchString(w.plan.App) {
		w.fault("app %q: the name is not of a-z, 0-9 and single - or _ between them; write another name: in the "+
			"compose file", w.plan.App)
	}
	for name, service := range entries(model["services"]) {
		w.service(name, service)
	}
	for _, kind := range []string{"configs", "secrets"} {
		for name, entry := range entries(model[kind]) {
			w.file(kind+" "+name, entry, "file")
		}
	}
	for _, list := range []*[]string{&w.plan.Files, &w.plan.Images} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	if len(w.faults) > 0 {
		return Plan{}, errors.Join(w.faults...)
	}
	// The names that docker compose has made up for networks and volumes of the app mean nothing to the device.
	for _, kind := range []string{"networks", "volumes", "configs", "secrets"} {
		w.unname(model[kind])
	}
	delete(model, "name") // the device takes that of the directory
	var err error
	w.plan.Compose, err = yaml.Marshal(model)
	return w.plan, err
}

type writer struct {
	dir    string
	plan   Plan
	faults []error
}

func (w *writer) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Errorf(format, args...))
}

// service replaces build by the image that it makes, and takes the files that are bound.
func (w *writer) service(name string, service map[string]any) {
	if service["build"] != nil {
		image, _ := service["image"].(string)
		if image == "" {
			image = w.plan.App + "-" + name // as docker compose calls it
		}
		if !validImage.MatchString(image) {
			w.fault("service %s: %q is no name of a container image", name, image)
		}
		w.plan.Images = append(w.plan.Images, image)
		delete(service, "build")
		service["image"] = image
		service["pull_policy"] = "never" // no registry has it
	}
	delete(service, "develop")
	volumes, _ := service["volumes"].([]any)
	for _, v := range volumes {
		if volume, ok := v.(map[string]any); ok && volume["type"] == "bind" {
			w.file("service "+name, volume, "source")
		}
	}
}

// file makes a path below the app's directory relative, and takes the file. Other paths are the device's own.
func (w *writer) file(what string, entry map[string]any, key string) {
	path, _ := entry[key].(string)
	below, err := filepath.Rel(w.dir, path)
	if path == "" || err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return
	}
	if below == "." {
		w.fault("%s: it binds the whole directory of the app; bind a directory in it", what)
		return
	}
	if _, err := os.Lstat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.fault("%s: %w", what, err)
	} else if err == nil {
		w.plan.Files = append(w.plan.Files, below)
	}
	entry[key] = "./" + below
}

// unname removes names that docker compose has made: APP_KEY.
func (w *writer) unname(all any) {
	for key, entry := range entries(all) {
		if entry["name"] == w.plan.App+"_"+key {
			delete(entry, "name")
		}
	}
}

// entries yields the mappings in a mapping, in the order of their keys.
func entries(value any) iter.Seq2[string, map[string]any] {
	all, _ := value.(map[string]any)
	return func(yield func(string, map[string]any) bool) {
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if entry, ok := all[key].(map[string]any); ok && !yield(key, entry) {
				return
			}
		}
	}
}
