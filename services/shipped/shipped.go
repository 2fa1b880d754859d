// Package shipped owns the service files of our images. The image builder writes those of a variant into the root, and
// the device reads them there. It never runs anything. Read Files first.
package shipped

import (
	"embed"
	"errors"
	"io/fs"

	"resinos/services/spec"
	"resinos/services/spec/definition"
)

// Files holds NAME.toml for each service, and VARIANT/NAME.toml with the lines that an image of this variant has in
// addition.
//
//go:embed *.toml */*.toml
var Files embed.FS

// File is one service file and its content.
type File struct {
	Name string // of the file: NAME.toml
	Data []byte
	Spec spec.Spec
}

// Variant returns the service files of an image of this variant, sorted by name. It fails only if one of our own files
// has a fault.
func Variant(variant string) ([]File, error) {
	specs, errs := definition.Load(definition.Layer{FS: Files, Dir: "."})
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var files []File
	for _, s := range specs {
		if !s.InVariant(variant) {
			continue
		}
		f, err := read(s.Name+".toml", variant)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// read combines a file with the lines of a variant.
func read(name, variant string) (File, error) {
	data, err := Files.ReadFile(name)
	if err != nil {
		return File{}, err
	}
	more, err := Files.ReadFile(variant + "/" + name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return File{}, err
	}
	data = append(data, more...)
	s, err := definition.Parse(name, data)
	return File{Name: name, Data: data, Spec: s}, err
}
