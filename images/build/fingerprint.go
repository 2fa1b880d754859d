package build

import (
	"errors"
	"fmt"

	"resinos/images/assemble"
	"resinos/mounts/fingerprint"
)

// addFingerprint adds the list of the sums of all files that do not change during the life of a device.
func addFingerprint(tree *assemble.Tree, name string) error {
	place, found := fingerprint.Find(name)
	if !found {
		return fmt.Errorf("list the files of %s: the place is unknown", name)
	}
	var lines []fingerprint.Line
	for _, e := range tree.Entries() {
		if !e.Mode.IsRegular() || place.Leaves(e.Path) {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		sum, err := fingerprint.Of(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("sum up %s: %w", e.Path, err)
		}
		lines = append(lines, fingerprint.Line{Path: e.Path, Sum: sum})
	}
	return tree.Add(assemble.Entry{Path: fingerprint.Name, Mode: 0o644, Content: fingerprint.Print(lines)})
}
