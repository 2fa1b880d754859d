package bundler

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
)

// ManifestType is the media type of the bundle's manifest, which is the configuration of the artifact.
const ManifestType = "application/vnd.resinos.bundle.manifest.v1+json"

// WriteOCI writes a bundle file as an OCI image layout into dir, which is created: the manifest as configuration, the
// file as the only layer. The same bundle gives the same bytes.
func WriteOCI(dir, file string, m bundle.Manifest) error {
	blobs := filepath.Join(dir, v1.ImageBlobsDir, "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	layer, err := copyBlob(blobs, file)
	if err != nil {
		return err
	}
	text, err := m.Encode()
	if err != nil {
		return err
	}
	config, err := putBlob(blobs, ManifestType, text)
	if err != nil {
		return err
	}
	top, err := artifact(m, config, layer)
	if err != nil {
		return err
	}
	manifest, err := putBlob(blobs, v1.MediaTypeImageManifest, top)
	if err != nil {
		return err
	}
	manifest.ArtifactType = httpsource.MediaType
	manifest.Annotations = map[string]string{v1.AnnotationRefName: m.Version}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{manifest},
	})
	if err != nil {
		return err
	}
	mark, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), mark, 0o644),
		os.WriteFile(filepath.Join(dir, v1.ImageIndexFile), index, 0o644))
}

// artifact returns the manifest of a bundle in a registry.
func artifact(m bundle.Manifest, config, layer v1.Descriptor) ([]byte, error) {
	return json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		ArtifactType: httpsource.MediaType, Config: config, Layers: []v1.Descriptor{layer},
		Annotations: map[string]string{v1.AnnotationVersion: m.Version, v1.AnnotationTitle: m.Board + " " + m.Variant},
	})
}

func putBlob(blobs, kind string, content []byte) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: kind, Digest: digest.FromBytes(content), Size: int64(len(content))}
	return d, os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), content, 0o644)
}

// copyBlob copies the bundle to the name that its digest gives it.
func copyBlob(blobs, file string) (v1.Descriptor, error) {
	in, err := os.Open(file)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer in.Close() // nothing was written
	out, err := os.CreateTemp(blobs, ".part-")
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer os.Remove(out.Name()) // it has another name then, or is worth nothing
	sum := digest.SHA256.Digester()
	n, err := io.Copy(io.MultiWriter(out, sum.Hash()), in)
	if err := errors.Join(err, out.Chmod(0o644), out.Close()); err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: httpsource.MediaType, Digest: sum.Digest(), Size: n}
	return d, os.Rename(out.Name(), filepath.Join(blobs, d.Digest.Encoded()))
}
