// Package apps carries the apps that the image builder can preload without being given a folder.
//
// It owns: the demonstration app "hello". It never does: build its container image (images/ociimage).
// Read first: Builtin.
package apps

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed hello
var builtin embed.FS

// Builtin returns the folder of an app that comes with the builder, or false if there is none of this name.
func Builtin(name string) (fs.FS, bool) {
	if !fs.ValidPath(name) || name == "." {
		return nil, false
	}
	if _, err := fs.Stat(builtin, name+"/compose.yaml"); err != nil {
		return nil, false
	}
	dir, err := fs.Sub(builtin, name)
	if err != nil {
		panic(fmt.Sprintf("embedded app %s: %v", name, err)) // the path was just found
	}
	return dir, true
}
