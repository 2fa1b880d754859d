package store

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// containerdName is containerd's annotation with the full name of an image.
const containerdName = "io.containerd.image.name"

// Limits of what is read: index.json, and the files before it.
const (
	maxIndex = 1 << 20
	maxBlobs = 10_000
)

// ReadIndex reads the index of an OCI layout in an archive. It skips the blobs.
func ReadIndex(r io.Reader) (v1.Index, error) {
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

// NameOf returns the full reference in annotations, empty if there is none.
func NameOf(annotations map[string]string) string {
	for _, key := range []string{containerdName, v1.AnnotationRefName} {
		if name := Normal(annotations[key]); name != "" {
			return name
		}
	}
	return ""
}
