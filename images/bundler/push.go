package bundler

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/services/reference"
	"resinos/services/registryclient"
)

// Push puts a bundle file into a registry, and returns the reference with the digest of its manifest. What the registry
// has already is not sent. settings are directories with the logins and hosts of registries. The tag names the new
// bundle only when all of it is there.
func Push(ctx context.Context, ref, file string, m bundle.Manifest, settings []string) (string, error) {
	r, err := reference.Parse(ref)
	if err != nil {
		return "", err
	}
	if r.Digest != "" {
		return "", fmt.Errorf("push to %s: a bundle is pushed to a tag, its digest follows from it", ref)
	}
	hosts, err := registryclient.Open(r, settings)
	if err != nil {
		return "", err
	}
	registry := hosts[len(hosts)-1] // the ones before are mirrors
	if r.Digest, err = push(ctx, registry, r.Tag, file, m); err != nil {
		return "", fmt.Errorf("push to %s: %w", ref, err)
	}
	return r.String(), nil
}

func push(ctx context.Context, to registryclient.Host, tag, file string, m bundle.Manifest) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() // nothing was written
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return "", err
	}
	layer := v1.Descriptor{MediaType: httpsource.MediaType, Size: size,
		Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil)))}
	text, err := m.Encode()
	if err != nil {
		return "", err
	}
	config := v1.Descriptor{MediaType: ManifestType, Digest: digest.FromBytes(text), Size: int64(len(text))}
	top, err := artifact(m, config, layer)
	if err != nil {
		return "", err
	}
	if err := to.PutBlob(ctx, string(layer.Digest), io.NewSectionReader(f, 0, size)); err != nil {
		return "", err
	}
	content := io.NewSectionReader(bytes.NewReader(text), 0, config.Size)
	if err := to.PutBlob(ctx, string(config.Digest), content); err != nil {
		return "", err
	}
	return string(digest.FromBytes(top)), to.PutManifest(ctx, tag, v1.MediaTypeImageManifest, top)
}
