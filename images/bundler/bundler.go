// Package bundler makes the update bundle of a disk image.
//
// It takes from the image the file system of slot A, the content of its manifest, and the list of the boot files. It
// never changes the image. The same image and keys give the same bytes. Read first: Make.
package bundler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/pack"
	"resinos/images/inspect"
	"resinos/images/keyring"
	"resinos/images/layout"
	"resinos/mounts/fat"
	"resinos/mounts/fingerprint"
)

// Options say what to make.
type Options struct {
	Image         string
	Output        string
	Keys          []string // private keys, as keyring.ReadAll returns them
	MinFrom       string   // the oldest version that may be replaced
	RollbackIndex int64
	From          []string // images that devices run: the bundle gets a delta from each
}

// Make writes the bundle of an image. Output is the old one, or missing, until the new one is complete and verified.
func Make(ctx context.Context, o Options) (m bundle.Manifest, err error) {
	if len(o.Keys) == 0 {
		return m, errors.New("sign bundle: no key given; name one with --key")
	}
	m, part, err := describe(ctx, o)
	if err != nil {
		return m, fmt.Errorf("read %s: %w", o.Image, err)
	}
	image, err := os.Open(o.Image)
	if err != nil {
		return m, err
	}
	defer image.Close() // nothing was written
	dir := filepath.Dir(o.Output)
	spool, err := os.CreateTemp(dir, ".bundle-")
	if err != nil {
		return m, err
	}
	defer os.Remove(spool.Name()) // temporary
	defer spool.Close()
	out, err := os.CreateTemp(dir, ".bundle-")
	if err != nil {
		return m, err
	}
	defer os.Remove(out.Name()) // it has another name then, or is worth nothing
	old, closeOld, err := oldSlots(ctx, o.From)
	defer closeOld()
	if err == nil {
		m, err = pack.Write(out, m, io.NewSectionReader(image, part.Start, part.Size), spool, o.Keys, old...)
	}
	if err == nil {
		err = verify(ctx, out, o.Keys)
	}
	if err := errors.Join(err, out.Chmod(0o644), out.Close()); err != nil {
		return m, fmt.Errorf("make %s: %w", o.Output, err)
	}
	return m, os.Rename(out.Name(), o.Output)
}

// oldSlots opens slot A of each image.
func oldSlots(ctx context.Context, images []string) (old []pack.Old, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for _, one := range closers {
			one()
		}
	}
	for _, image := range images {
		report, err := inspect.Image(ctx, image)
		if err != nil {
			return old, closeAll, fmt.Errorf("read %s: %w", image, err)
		}
		if len(report.Slots) == 0 || report.Slots[0].Manifest == nil {
			return old, closeAll, fmt.Errorf("read %s: slot A has no manifest; build it with: resin build", image)
		}
		slot, closeSlot, err := slotA(ctx, image)
		if err != nil {
			return old, closeAll, err
		}
		closers = append(closers, closeSlot)
		old = append(old, pack.Old{Version: report.Slots[0].Manifest.Version, Slot: slot, Size: slot.Size()})
	}
	return old, closeAll, nil
}

// describe reads what the manifest says about slot A of an image, and where that slot is.
func describe(ctx context.Context, o Options) (bundle.Manifest, inspect.Partition, error) {
	report, err := inspect.Image(ctx, o.Image)
	if err != nil {
		return bundle.Manifest{}, inspect.Partition{}, err
	}
	var slot, boot inspect.Partition
	for _, p := range report.Partitions {
		switch p.Label {
		case layout.RootA:
			slot = p
		case layout.Boot:
			boot = p
		}
	}
	if len(report.Slots) == 0 || report.Slots[0].Manifest == nil {
		return bundle.Manifest{}, slot, errors.New("slot A has no manifest; build the image with: resin build")
	}
	in := report.Slots[0].Manifest
	files, err := bootFiles(o.Image, boot)
	return bundle.Manifest{
		Board: in.Board, Variant: in.Variant, Version: in.Version, MinFrom: o.MinFrom, RollbackIndex: o.RollbackIndex,
		Slot: bundle.SlotImage{Size: slot.Size}, Root: bundle.Root{VerityHash: in.Root}, Boot: files,
	}, slot, err
}

// bootFiles lists the files of the boot partition that the image's fingerprint lists: all that nobody edits.
func bootFiles(image string, p inspect.Partition) ([]bundle.BootFile, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	files, err := fat.Open(io.NewSectionReader(f, p.Start, p.Size))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", layout.Boot, err)
	}
	text, err := files.Read(fingerprint.Name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", layout.Boot, err)
	}
	lines, err := fingerprint.Parse(text)
	if err != nil {
		return nil, err
	}
	var all []bundle.BootFile
	for _, line := range lines {
		content, err := files.Read(line.Path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", layout.Boot, err)
		}
		sum := sha256.Sum256(content)
		all = append(all, bundle.BootFile{
			Name: line.Path, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]),
		})
	}
	return all, nil
}

// verify reads a bundle like a device that trusts the keys it was signed with.
func verify(ctx context.Context, f *os.File, private []string) error {
	keys, err := keyring.Public(private)
	if err != nil {
		return err
	}
	src, err := File(f)
	if err != nil {
		return err
	}
	b, err := bundle.Open(src, keys)
	if err != nil {
		return err
	}
	return b.Verify(ctx, nil)
}

// File returns a file as the source of a bundle.
func File(f *os.File) (bundle.Source, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, st.Size()), nil
}
