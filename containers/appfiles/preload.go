package appfiles

import (
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/load"
	"resinos/containers/plan"
	"resinos/containers/store"
	"resinos/mounts/plainfile"
)

// readPreload returns the images that the OCI layout in a tar file names. Only headers and
// index.json are read; the blobs are skipped over.
func readPreload(file string) ([]plan.Preload, error) {
	f, err := plainfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read; this also releases the lease
	if err := load.Lease(f); err != nil {
		return nil, err
	}
	index, err := store.ReadIndex(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var out []plan.Preload
	for _, m := range index.Manifests {
		if name := store.NameOf(m.Annotations); name != "" {
			out = append(out, plan.Preload{Path: file, Name: name, Digest: m.Digest.String()})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read %s: index.json names no image (annotation %s)", file, v1.AnnotationRefName)
	}
	return out, nil
}
