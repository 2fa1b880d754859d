// Package appdata puts apps into the tree of resin-data: the files that an app needs, the archives of its container
// images, and the app as loaded from its compose file, which the device would otherwise load at its first boot. It
// refuses every app that the device would refuse. Read Add first.
package appdata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"resinos/containers/app"
	"resinos/containers/composefile"
	"resinos/containers/load"
	"resinos/images/assemble"
)

// Directories of resin-data, and where it is mounted on a device.
const (
	Apps    = "apps"
	Loaded  = "loaded"
	Mounted = "/mnt/data"
)

// Add adds the app in a directory of this machine, and returns the app's name, which is that of the directory. Of the
// files it adds those that the app is loaded from, those that its containers see, and images/*.tar. Loader is the
// version of the program that loads apps in the root of the image (packed.Program.Version); if it is empty, the device
// loads the app at its first boot. The error of a compose file that a device refuses names the file and the line.
func Add(ctx context.Context, tree *assemble.Tree, dir, loader string) (name string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	name = strings.ToLower(filepath.Base(dir))
	a, err := read(ctx, name, dir)
	if err != nil {
		return name, fmt.Errorf("preload app %s: %w", dir, err)
	}
	faults := []error{a.addFiles(tree, dir)}
	if loader != "" && !a.left {
		text, err := a.encode(loader)
		faults = append(faults, err, tree.Add(assemble.Entry{Path: Loaded, Mode: fs.ModeDir | 0o700}),
			tree.Add(assemble.Entry{Path: path.Join(Loaded, load.FileName(name)), Mode: 0o600, Content: text}))
	}
	return name, errors.Join(faults...)
}

// foreign is what may stand for a file outside of the app's directory, which the loader opens by itself: it finds none
// on a device, and perhaps one here.
var foreign = regexp.MustCompile(`~|include|extends`)

// loaded is what an app is.
type loaded struct {
	name    string
	result  load.Result       // with paths below place
	place   string            // the directory in which the loader had the app's files
	content map[string][]byte // of the files that the app was loaded from, by their names
	left    bool              // a file has one of foreign: the device loads the app
}

// read loads the app in dir.
func read(ctx context.Context, name, dir string) (a loaded, err error) {
	work, err := os.MkdirTemp("", "resin-app-")
	if err != nil {
		return a, err
	}
	defer os.RemoveAll(work) // temporary files; it does no harm if they stay
	a = loaded{name: name, place: filepath.Join(work, name), content: map[string][]byte{}}
	r := load.Reader{Open: func(file string) ([]byte, load.Source, error) {
		data, err := load.ReadFile(dir, file)
		if err != nil {
			return nil, load.Source{Name: file}, err
		}
		a.content[file] = data
		a.left = a.left || foreign.Match(data)
		return data, load.SourceOf(file, data), nil
	}}
	result, warnings, err := composefile.Load(ctx, name, a.place, r.Read)
	if err = errors.Join(r.Refused, err); err != nil {
		there := strings.NewReplacer(a.place+"/", "", a.place, dir, work, filepath.Dir(dir))
		return a, errors.New(there.Replace(err.Error()))
	}
	a.result = load.Result{App: result, Warnings: warnings, Sources: r.Sources}
	return a, nil
}

// addFiles adds the files of the app that a device needs.
func (a loaded) addFiles(tree *assemble.Tree, dir string) error {
	top := path.Join(Apps, a.name)
	var faults []error
	for file, text := range a.content {
		faults = append(faults, tree.Add(assemble.Entry{Path: path.Join(top, file), Mode: 0o644, Content: text}))
	}
	images, err := filepath.Glob(filepath.Join(dir, "images", "*.tar"))
	faults = append(faults, err)
	for _, file := range images {
		faults = append(faults, addFile(tree, path.Join(top, "images", filepath.Base(file)), file))
	}
	for _, c := range a.result.App.Containers {
		for _, below := range a.seen(c) {
			faults = append(faults, addAll(tree, top, dir, below))
		}
	}
	return errors.Join(faults...)
}

// seen returns what a container sees of the app's directory: names relative to it.
func (a loaded) seen(c app.Container) (names []string) {
	sources := []string{}
	for _, m := range c.Mounts {
		sources = append(sources, m.Source)
	}
	for _, f := range c.Files {
		sources = append(sources, f.Source)
	}
	for _, s := range sources {
		if name, err := filepath.Rel(a.place, s); err == nil && filepath.IsAbs(s) && filepath.IsLocal(name) {
			names = append(names, name)
		}
	}
	return names
}

// addAll adds a file, or all files of a directory. What is not there is created by the device, or refused there.
func addAll(tree *assemble.Tree, top, dir, name string) error {
	err := filepath.WalkDir(filepath.Join(dir, name), func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		target := path.Join(top, filepath.ToSlash(below))
		if !d.IsDir() {
			return addFile(tree, target, file)
		}
		if _, there := tree.Lookup(target); there {
			return nil
		}
		return tree.Add(assemble.Entry{Path: target, Mode: fs.ModeDir | 0o755})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// addFile adds one file, unless it is there already.
func addFile(tree *assemble.Tree, target, file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file: put a copy of what it stands for there", file)
	}
	if _, there := tree.Lookup(target); there {
		return nil
	}
	mode := 0o644 | info.Mode()&0o111
	if info.Mode()&0o077 == 0 { // a secret
		mode &= 0o700
	}
	return tree.Add(assemble.Entry{Path: target, Mode: mode, Source: file})
}

// encode returns the file from which a device with this loader knows what the app is.
func (a loaded) encode(loader string) ([]byte, error) {
	text, err := json.Marshal(a.result)
	if err != nil {
		return nil, err
	}
	here, err1 := json.Marshal(a.place)
	there, err2 := json.Marshal(path.Join(Mounted, Apps, a.name))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	// The name of a new directory occurs nowhere else.
	text = bytes.ReplaceAll(text, bytes.Trim(here, `"`), bytes.Trim(there, `"`))
	var r load.Result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	return load.Encode(loader, r)
}
