package build

import (
	"fmt"
	"slices"

	"resinos/services/shipped"
)

// services returns the service files of the variant, by file name, but for those of parts that are left out.
func (b *builder) services() (map[string][]byte, error) {
	files, err := shipped.Variant(b.Variant)
	if err != nil {
		return nil, fmt.Errorf("read shipped services: %w", err)
	}
	out := make(map[string][]byte, len(files))
	for _, f := range files {
		if slices.Contains(b.Without, f.Spec.Name) {
			continue
		}
		out[f.Name] = f.Data
	}
	return out, nil
}
