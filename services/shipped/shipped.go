// Package shipped owns the definitions of the services that our images carry, one TOML file
// each. It is for the image builder, which writes those of a variant into the root; on the device
// they are read from there. It never runs anything. Read Files first.
package shipped

import (
	"embed"
	"errors"
	"io/fs"

	"resinos/services/spec"
)

// Files holds NAME.toml for each service, and VARIANT/NAME.toml with the lines that an image of this variant has in addition.
//
//go:embed *.toml */*.toml
var Files embed.FS

// File is one definition and what it says.
type File struct {
	Name string // of the file: NAME.toml
	Data []byte
	Spec spec.Spec
}

// Variant returns the files that an image of this variant carries, in name order. It fails only
// if one of our own files is wrong.
func Variant(variant string) ([]File, error) {
	specs, errs := spec.Load(spec.Layer{FS: Files, Dir: "."})
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

// read puts a file together for a variant.
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
	s, err := spec.Parse(name, data)
	return File{Name: name, Data: data, Spec: s}, err
}
