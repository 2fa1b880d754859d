// Package apps owns the apps that the image builder can preload by name: the demonstration app "hello". It does not
// build the container image of that app (images/ociimage). Read first: Builtin.
package apps

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed hello
var builtin embed.FS

// Builtin returns the directory of the app with this name, or false if the builder has none.
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
