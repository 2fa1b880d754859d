package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// entry is one file of a tar.
type entry struct {
	name, link string
	data       []byte
	mode       int64
	uid        int // owner and group
}

func tarOf(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg, Linkname: e.link,
			Uid: e.uid, Gid: e.uid}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if e.link != "" {
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// busyboxImage writes an OCI layout in a tar with one uncompressed layer: busybox and its shell.
func busyboxImage(t *testing.T, busybox, file, name, greeting string) {
	t.Helper()
	configuredImage(t, busybox, file, name, greeting, map[string]any{"Cmd": []string{"/bin/sh"},
		"Env": []string{"FROM=image"}})
}

// configuredImage is busyboxImage with more files, and a configuration of its own, which may have what OCI does not
// know.
func configuredImage(
	t *testing.T, busybox, file, name, greeting string, configuration map[string]any, files ...entry,
) {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	layer := tarOf(t, append([]entry{
		{name: "bin/busybox", data: program, mode: 0o755},
		{name: "bin/sh", link: "busybox", mode: 0o777},
		{name: "bin/sleep", link: "busybox", mode: 0o777},
		{name: "some/thing", mode: 0o644},
		{name: "greeting", data: []byte(greeting), mode: 0o644},
	}, files...))
	config := asJSON(t, map[string]any{
		"architecture": runtimeArch, "os": "linux", "config": configuration,
		"rootfs": v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	describe := func(kind string, data []byte) v1.Descriptor {
		return v1.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	manifest := asJSON(t, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: describe(v1.MediaTypeImageConfig, config),
		Layers: []v1.Descriptor{describe(v1.MediaTypeImageLayer, layer)},
	})
	top := describe(v1.MediaTypeImageManifest, manifest)
	top.Annotations = map[string]string{v1.AnnotationRefName: name}
	index := asJSON(t, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{top}})
	blob := func(data []byte) entry {
		return entry{name: "blobs/sha256/" + digest.FromBytes(data).Encoded(), data: data, mode: 0o644}
	}
	layout := tarOf(t, []entry{
		{name: v1.ImageLayoutFile, data: asJSON(t, v1.ImageLayout{Version: v1.ImageLayoutVersion}), mode: 0o644},
		{name: v1.ImageIndexFile, data: index, mode: 0o644},
		blob(manifest), blob(config), blob(layer),
	})
	if err := os.WriteFile(file, layout, 0o644); err != nil {
		t.Fatal(err)
	}
}
