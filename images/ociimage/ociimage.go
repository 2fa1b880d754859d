// Package ociimage builds a small container image from one static busybox, with the same bytes every time.
//
// It owns the layer, the configuration and the index of the image that is preloaded for the demonstration app. It never
// pushes, pulls or runs anything. Read first: Image.
package ociimage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/images/assemble"
)

// nameAnnotation is the annotation in which containerd finds the full name of an imported image.
const nameAnnotation = "io.containerd.image.name"

// Image describes the container image.
type Image struct {
	Name    string   // such as resinos/hello:latest
	Arch    string   // Go's name
	Busybox []byte   // the static binary
	Applets []string // of busybox, each a symbolic link in /bin
	Epoch   int64
	Command []string // sh if empty
}

// Archive returns the container image as a tar file with an OCI image layout, which containerd imports.
func (x Image) Archive() ([]byte, error) {
	layer, err := x.layer()
	if err != nil {
		return nil, fmt.Errorf("create container image %s: %w", x.Name, err)
	}
	blobs := blobs{}
	command := x.Command
	if len(command) == 0 {
		command = []string{"sh"}
	}
	created := time.Unix(x.Epoch, 0).UTC()
	config, err := blobs.addJSON(v1.MediaTypeImageConfig, v1.Image{
		Created:  &created,
		Platform: v1.Platform{Architecture: x.Arch, OS: "linux"},
		Config:   v1.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: command},
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return nil, err
	}
	// The layer is not compressed: unpacking costs time on the device, and disk space is cheap.
	manifest, err := blobs.addJSON(v1.MediaTypeImageManifest, v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: config, Layers: []v1.Descriptor{blobs.add(v1.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		return nil, err
	}
	manifest.Platform = &v1.Platform{Architecture: x.Arch, OS: "linux"}
	manifest.Annotations = map[string]string{v1.AnnotationRefName: x.Name, nameAnnotation: "docker.io/" + x.Name}
	return x.archive(blobs, v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{manifest},
	})
}

func (x Image) layer() ([]byte, error) {
	tree := &assemble.Tree{}
	entries := []assemble.Entry{
		{Path: "bin/busybox", Mode: 0o755, Content: x.Busybox},
		{Path: "etc/passwd", Mode: 0o644, Content: []byte("root:x:0:0:root:/root:/bin/sh\n")},
		{Path: "etc/group", Mode: 0o644, Content: []byte("root:x:0:\n")},
		{Path: "root", Mode: fs.ModeDir | 0o700},
		{Path: "tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
	for _, a := range x.Applets {
		entries = append(entries, assemble.Entry{Path: "bin/" + a, Mode: fs.ModeSymlink | 0o777, Target: "busybox"})
	}
	for _, e := range entries {
		if err := tree.Add(e); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err := tree.WriteTar(&b, x.Epoch)
	return b.Bytes(), err
}

func (x Image) archive(content blobs, index v1.Index) ([]byte, error) {
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	tree := &assemble.Tree{}
	content["oci-layout"], content["index.json"] = layout, text
	for name, data := range content {
		if err := tree.Add(assemble.Entry{Path: name, Mode: 0o644, Content: data}); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err = tree.WriteTar(&b, x.Epoch)
	return b.Bytes(), err
}

// blobs are the files of an image layout by their path in it.
type blobs map[string][]byte

func (b blobs) add(mediaType string, data []byte) v1.Descriptor {
	d := digest.FromBytes(data)
	b["blobs/sha256/"+d.Encoded()] = data
	return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (b blobs) addJSON(mediaType string, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return b.add(mediaType, data), nil
}

// HasApplet reports whether a busybox binary has an applet: its table contains each name between two NUL bytes.
func HasApplet(busybox []byte, name string) bool {
	return bytes.Contains(busybox, []byte("\x00"+name+"\x00"))
}
