package ociimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func hello() Image {
	return Image{Name: "resinos/hello:latest", Arch: "arm64", Busybox: []byte("\x7fELF\x00sh\x00ls\x00"),
		Applets: []string{"ls", "sh"}, Epoch: 1767225600}
}

func read(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func decode[T any](t *testing.T, data []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestArchiveHoldsTogether follows the digests from the index to the layer.
func TestArchiveHoldsTogether(t *testing.T) {
	archive, err := hello().Archive()
	if err != nil {
		t.Fatal(err)
	}
	files := read(t, archive)
	blob := func(d v1.Descriptor) []byte {
		data := files["blobs/sha256/"+d.Digest.Encoded()]
		if digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Fatalf("blob %s: %d bytes do not match", d.Digest, len(data))
		}
		return data
	}
	index := decode[v1.Index](t, files["index.json"])
	top := index.Manifests[0]
	if top.Annotations[nameAnnotation] != "docker.io/resinos/hello:latest" ||
		top.Annotations[v1.AnnotationRefName] != "resinos/hello:latest" {
		t.Errorf("annotations = %v", top.Annotations)
	}
	manifest := decode[v1.Manifest](t, blob(top))
	config := decode[v1.Image](t, blob(manifest.Config))
	if config.Architecture != "arm64" || config.OS != "linux" {
		t.Errorf("platform = %+v", config.Platform)
	}
	layer := blob(manifest.Layers[0])
	if config.RootFS.DiffIDs[0] != digest.FromBytes(layer) {
		t.Errorf("diff id = %s, want that of the layer", config.RootFS.DiffIDs[0])
	}
	inside := read(t, layer)
	for _, name := range []string{"bin/busybox", "bin/sh", "bin/ls", "tmp/", "etc/passwd"} {
		if _, ok := inside[name]; !ok {
			t.Errorf("layer lacks %s", name)
		}
	}
	if _, ok := files["oci-layout"]; !ok {
		t.Error("archive lacks oci-layout")
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	one, err := hello().Archive()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // map order must not show
		if two, err := hello().Archive(); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("two archives differ, %v", err)
		}
	}
}

func TestHasApplet(t *testing.T) {
	for name, want := range map[string]bool{"sh": true, "ls": true, "l": false, "cat": false} {
		if got := HasApplet(hello().Busybox, name); got != want {
			t.Errorf("HasApplet(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestAppletTwice(t *testing.T) {
	x := hello()
	x.Applets = []string{"sh", "sh"}
	if _, err := x.Archive(); err == nil {
		t.Error("an applet that stands twice was accepted")
	}
}
