package build

import (
	"fmt"

	"resinos/services/shipped"
)

// services returns the service files of the variant, by file name.
func (b *builder) services() (map[string][]byte, error) {
	files, err := shipped.Variant(b.Variant)
	if err != nil {
		return nil, fmt.Errorf("read shipped services: %w", err)
	}
	out := make(map[string][]byte, len(files))
	for _, f := range files {
		out[f.Name] = f.Data
	}
	return out, nil
}
