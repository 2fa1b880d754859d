package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// mostSource is the largest file that the tree may have, in bytes: no source is as large, and a binary, a package or an
// image is.
const mostSource = 1 << 20

// sizes looks at every file outside of the ignored directories, whether git has it already or will with the next
// commit.
func sizes(t *tree) ([]string, error) {
	var faults []string
	err := filepath.WalkDir(t.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path == ".git" || slices.Contains(ignored, path) {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err == nil && info.Size() > mostSource {
			faults = append(faults, fmt.Sprintf("%s is %d bytes: what is built or downloaded belongs into an ignored "+
				"directory", path, info.Size()))
		}
		return err
	})
	return faults, err
}
