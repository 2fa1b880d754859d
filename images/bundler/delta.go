package bundler

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"resinos/bsp/bundle"
	"resinos/images/inspect"
	"resinos/images/keyring"
	"resinos/images/layout"
)

// Delta is what an update costs a device.
type Delta struct {
	From     string `json:"from"`
	Fetched  int64  `json:"fetched"` // bytes, manifest and index included
	Requests int    `json:"requests"`
}

// Compare installs a bundle into a temporary file like a device that runs slot A of an image, and reports what it reads
// of the bundle.
func Compare(ctx context.Context, file, image string, private []string) (d Delta, err error) {
	keys, err := keyring.Public(private)
	if err != nil {
		return d, err
	}
	f, err := os.Open(file)
	if err != nil {
		return d, err
	}
	defer f.Close() // nothing was written
	src, err := File(f)
	if err != nil {
		return d, err
	}
	count := &counted{Source: src}
	b, err := bundle.Open(count, keys)
	if err != nil {
		return d, err
	}
	seed, closeSeed, err := slotA(ctx, image)
	if err != nil {
		return d, err
	}
	defer closeSeed()
	idle, err := os.CreateTemp(filepath.Dir(file), ".slot-")
	if err != nil {
		return d, err
	}
	defer os.Remove(idle.Name()) // temporary
	defer idle.Close()
	if err := idle.Truncate(b.Manifest().Slot.Size); err != nil {
		return d, err
	}
	err = b.Install(ctx, seed, seed.Size(), idle, nil)
	return Delta{image, count.bytes, count.requests}, err
}

// slotA opens slot A of an image.
func slotA(ctx context.Context, image string) (*io.SectionReader, func(), error) {
	report, err := inspect.Image(ctx, image)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range report.Partitions {
		if p.Label == layout.RootA {
			f, err := os.Open(image)
			return io.NewSectionReader(f, p.Start, p.Size), func() { _ = f.Close() }, err // nothing was written
		}
	}
	return nil, nil, errors.New("read " + image + ": it has no slot A")
}

// counted counts what is read from a source.
type counted struct {
	bundle.Source
	bytes    int64
	requests int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.Source.ReadAt(p, at)
	c.bytes += int64(n)
	c.requests++
	return n, err
}
