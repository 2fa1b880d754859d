// Package ocisource reads a bundle from an OCI registry: the blob of a manifest's only layer, by requests for ranges.
//
// It checks the manifest, and chooses which of several hosts is read. Package httpsource handles faults of servers with
// ranges, package registryclient logins and trust. It believes the registry only where the bundle is: the bundle's
// signatures decide. Read first: Open.
package ocisource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"resinos/bsp/bundle/httpsource"
	"resinos/services/reference"
	"resinos/services/registryclient"
)

// Source is a bundle in a registry and its mirrors. It implements bundle.Source. It is for one goroutine at a time.
type Source struct {
	ctx   context.Context
	size  int64
	hosts []*registryclient.Host // those that have not failed
	blob  string
	o     httpsource.Options
	src   *httpsource.Source // of the first host
}

// Open finds the bundle that a reference names. settings are the directories of the owner's settings for registries.
// ctx bounds all later reads too.
func Open(ctx context.Context, ref string, settings []string, o httpsource.Options) (*Source, error) {
	r, err := reference.Parse(ref)
	if err != nil {
		return nil, err
	}
	hosts, err := registryclient.Open(r, settings)
	if err != nil {
		return nil, err
	}
	layer, err := resolve(ctx, r, hosts)
	if err != nil {
		return nil, fmt.Errorf("find bundle %s: %w", r, err)
	}
	s := &Source{ctx: ctx, size: layer.Size, blob: layer.Digest, o: o}
	for i := range hosts {
		if hosts[i].Pull {
			s.hosts = append(s.hosts, &hosts[i])
		}
	}
	if len(s.hosts) == 0 {
		return nil, fmt.Errorf("find bundle %s: the settings let no host be pulled from", r)
	}
	return s, s.next(nil)
}

// resolve asks the hosts for the manifest, one after the other.
func resolve(ctx context.Context, r reference.Reference, hosts []registryclient.Host) (layer, error) {
	faults := errors.New("the settings let no host be asked for a manifest")
	first := true
	for _, h := range hosts {
		if !h.Resolve && r.Digest == "" || !h.Resolve && !h.Pull {
			continue
		}
		text, err := h.Manifest(ctx, r.Manifest(), mediaType)
		if err == nil {
			err = verify(text, r.Digest)
		}
		var found layer
		if err == nil {
			found, err = parse(text)
		}
		if err == nil {
			return found, nil
		}
		if ctx.Err() != nil {
			return layer{}, context.Cause(ctx)
		}
		if first {
			faults, first = nil, false
		}
		faults = errors.Join(faults, err)
	}
	return layer{}, faults
}

// verify compares a manifest with the digest that it was asked for by, if it was.
func verify(text []byte, digest string) error {
	sum := sha256.Sum256(text)
	if digest != "" && digest != "sha256:"+hex.EncodeToString(sum[:]) {
		return errors.New("the manifest is another one than its digest names")
	}
	return nil
}

// mediaType is that of a manifest.
const mediaType = "application/vnd.oci.image.manifest.v1+json"

// layer is a descriptor, as a manifest has it.
type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// parse returns the bundle that a manifest names.
func parse(text []byte) (layer, error) {
	var m struct {
		SchemaVersion int     `json:"schemaVersion"`
		MediaType     string  `json:"mediaType"`
		Layers        []layer `json:"layers"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return layer{}, fmt.Errorf("parse manifest: %w", err)
	}
	if m.SchemaVersion != 2 || m.MediaType != "" && m.MediaType != mediaType || len(m.Layers) != 1 ||
		m.Layers[0].MediaType != httpsource.MediaType {
		return layer{}, errors.New("it is no bundle: a bundle is pushed with resin bundle --push")
	}
	l := m.Layers[0]
	if _, err := reference.Parse("x.y/z@" + l.Digest); err != nil || l.Size <= 0 {
		return layer{}, fmt.Errorf("parse manifest: a layer of %d bytes with digest %q", l.Size, l.Digest)
	}
	return l, nil
}

// next opens the blob at the first host that has it. cause is why the one before will not do.
func (s *Source) next(cause error) error {
	faults := cause
	for ; len(s.hosts) > 0; s.hosts = s.hosts[1:] {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		o := s.o
		o.Client = s.hosts[0].Client()
		src, err := httpsource.Open(s.ctx, s.hosts[0].Blob(s.blob), o)
		if err == nil && src.Size() != s.size {
			err = fmt.Errorf("the blob has %d bytes, the manifest says %d", src.Size(), s.size)
		}
		if err == nil {
			s.src = src
			return nil
		}
		faults = errors.Join(faults, err)
	}
	return faults
}

// Size returns the size of the bundle.
func (s *Source) Size() int64 { return s.size }

// ReadAt reads a part of the bundle: from the next host if the one before has failed.
func (s *Source) ReadAt(p []byte, at int64) (int, error) {
	for len(s.hosts) > 0 {
		n, err := s.src.ReadAt(p, at)
		if err == nil || errors.Is(err, io.EOF) && at+int64(n) == s.size {
			return n, err
		}
		if s.ctx.Err() != nil {
			return 0, context.Cause(s.ctx)
		}
		s.hosts = s.hosts[1:]
		if err := s.next(err); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no host of the registry answers any more")
}
