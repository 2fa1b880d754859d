package workload

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/containers/store"
	"resinos/mounts/plainfile"
)

// containerdName is containerd's annotation with the whole name of an image.
const containerdName = "io.containerd.image.name"

// Bounds of what is read: index.json, and the files that may come before it.
const (
	maxIndex = 1 << 20
	maxBlobs = 10_000
)

// readPreload returns the images that the OCI layout in a tar file names. Only headers and
// index.json are read; the blobs are skipped over.
func readPreload(file string) ([]Preload, error) {
	f, err := plainfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read; gives the lease back too
	if err := lease(f); err != nil {
		return nil, err
	}
	index, err := readIndex(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var out []Preload
	for _, m := range index.Manifests {
		if name := imageName(m.Annotations); name != "" {
			out = append(out, Preload{Path: file, Name: name, Digest: m.Digest.String()})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read %s: index.json names no image (annotation %s)", file, v1.AnnotationRefName)
	}
	return out, nil
}

func readIndex(r io.Reader) (v1.Index, error) {
	var index v1.Index
	tr := tar.NewReader(r)
	for range maxBlobs {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return index, errors.New("no index.json: not an OCI layout")
		}
		if err != nil {
			return index, err
		}
		if path.Clean(h.Name) == v1.ImageIndexFile {
			return index, json.NewDecoder(io.LimitReader(tr, maxIndex)).Decode(&index)
		}
	}
	return index, fmt.Errorf("no index.json among the first %d files", maxBlobs)
}

// imageName is the whole reference that annotations give, or empty.
func imageName(annotations map[string]string) string {
	for _, key := range []string{containerdName, v1.AnnotationRefName} {
		if name := store.Normal(annotations[key]); name != "" {
			return name
		}
	}
	return ""
}
