package preload

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds what is read of an archive: its index, manifests and configurations.
const maxDocument = 4 << 20

// readArchive returns the name of the first container image in an OCI layout in a tar file, as docker save writes it,
// and fails if a device of the architecture could not run one of them.
func readArchive(file, arch string) (string, error) {
	documents, err := readDocuments(file)
	if err != nil {
		return "", err
	}
	text, ok := documents[v1.ImageIndexFile]
	if !ok {
		return "", errors.New("no index.json, so it is no OCI layout: write it with docker save (Docker 25 or later)," +
			" or with skopeo copy docker-archive:OLD oci-archive:NEW:NAME")
	}
	var index v1.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return "", fmt.Errorf("read index.json: %w", err)
	}
	first := ""
	for _, d := range index.Manifests {
		name := cmp.Or(d.Annotations["io.containerd.image.name"], d.Annotations[v1.AnnotationRefName])
		if name == "" {
			continue
		}
		found := platforms(documents, d, 0)
		if len(found) > 0 && !slices.Contains(found, arch) {
			return "", fmt.Errorf("container image %s is for %s, and the disk image is for %s: build it with"+
				" --platform linux/%s", name, strings.Join(found, ", "), arch, arch)
		}
		first = cmp.Or(first, name)
	}
	if first == "" {
		return "", errors.New("index.json names no container image: save it by its name (docker save NAME:TAG)")
	}
	return first, nil
}

// platforms are the architectures of the images that d stands for; what cannot be read is left to the device.
func platforms(documents map[string][]byte, d v1.Descriptor, depth int) (out []string) {
	if depth > 2 {
		return nil
	}
	text := documents[path.Join(v1.ImageBlobsDir, d.Digest.Algorithm().String(), d.Digest.Encoded())]
	var document struct {
		Manifests []v1.Descriptor `json:"manifests"`
		Config    *v1.Descriptor  `json:"config"`
	}
	if json.Unmarshal(text, &document) != nil {
		return nil
	}
	for _, m := range document.Manifests {
		if m.Platform != nil && m.Platform.OS == "unknown" {
			continue // provenance and the like
		}
		out = append(out, platforms(documents, m, depth+1)...)
	}
	if c := document.Config; c != nil {
		var image v1.Image
		text := documents[path.Join(v1.ImageBlobsDir, c.Digest.Algorithm().String(), c.Digest.Encoded())]
		if json.Unmarshal(text, &image) == nil && image.Architecture != "" {
			out = append(out, image.Architecture)
		}
	}
	return out
}

// readDocuments reads the small JSON files of an archive, by their names.
func readDocuments(file string) (map[string][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	out := map[string][]byte{}
	r := tar.NewReader(f)
	for sum := int64(0); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read archive: %w; it must be a tar file that is not compressed", err)
		}
		if h.Typeflag != tar.TypeReg || h.Size > maxDocument || sum+h.Size > 16*maxDocument {
			continue
		}
		var first [1]byte
		if _, err := io.ReadFull(r, first[:]); err != nil || first[0] != '{' {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		sum += h.Size
		out[path.Clean(h.Name)] = append(first[:], text...)
	}
}
