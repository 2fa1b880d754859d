package appcommand

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// volumesDir is where the volumes of all apps are (containers/volume).
const volumesDir = "/mnt/data/volumes"

// showVolumes prints which volumes of an app would go.
func showVolumes(s *cli.Session, name string) error {
	entries, err := os.ReadDir(filepath.Join(s.Root, volumesDir, filepath.Base(name)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			fmt.Fprintln(s.Stdout, "remove volume", screen.Escape(e.Name()))
		}
	}
	return nil
}
