// Package pack makes bundles: it cuts a slot into chunks, compresses them and signs the manifest.
//
// It writes the format that package bundle reads. It runs on the build host and in tests, never on a device. The same
// slot and keys give the same bytes. Read first: Write.
package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/index"
)

// Write writes the bundle of a slot to w. m says what the slot is; the sizes and digests in it are filled in. spool
// keeps the compressed chunks until the manifest is complete; it is empty, and the caller removes it. The bundle has a
// delta from each of the old slots for which one makes a device fetch less.
func Write(
	w io.Writer, m bundle.Manifest, slot io.ReaderAt, spool io.ReadWriteSeeker, signers []string, old ...Old,
) (bundle.Manifest, error) {
	list, entries, err := chunks(&m, slot, spool)
	if err != nil {
		return m, err
	}
	stored := m.Data
	m.Deltas = nil
	for _, o := range old {
		d, err := delta(o, slot, entries, spool)
		if errors.Is(err, errNothing) {
			continue
		}
		if err != nil {
			return m, fmt.Errorf("make delta from version %s: %w", o.Version, err)
		}
		m.Deltas = append(m.Deltas, d)
		stored += d.Index.Size + d.Data
	}
	signed, err := Sign(m, signers)
	if err != nil {
		return m, err
	}
	head, err := bundle.Head(signed)
	if err != nil {
		return m, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return m, err
	}
	for _, part := range [][]byte{head, list} {
		if _, err := w.Write(part); err != nil {
			return m, err
		}
	}
	_, err = io.CopyN(w, spool, stored)
	return m, err
}

// Sign returns the manifest as a note with the signature of each key, in the form of note.GenerateKey.
func Sign(m bundle.Manifest, signers []string) ([]byte, error) {
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := bundle.ParseManifest(text); err != nil {
		return nil, err
	}
	var all []note.Signer
	for _, key := range signers {
		s, err := note.NewSigner(key)
		if err != nil {
			// The cause is left out: it could print the key.
			return nil, errors.New("read private key: it is none; create one with: resin keys new")
		}
		all = append(all, s)
	}
	return note.Sign(&note.Note{Text: string(text)}, all...)
}

// chunks writes the stored bytes of the slot to spool and fills in sizes and digests. It returns the index, as text and
// as entries.
func chunks(m *bundle.Manifest, slot io.ReaderAt, spool io.Writer) ([]byte, []index.Entry, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, nil, err
	}
	defer z.Close()
	var entries []index.Entry
	known := make(map[index.Digest]bool)
	whole := sha256.New()
	m.Format, m.Data = bundle.Format, 0
	var packed []byte
	all := io.TeeReader(io.NewSectionReader(slot, 0, m.Slot.Size), whole)
	err = index.Chunks(all, m.Slot.Size, func(c index.Cut) error {
		e := index.Entry{Offset: c.Offset, Length: c.Length}
		if c.Data != nil {
			e.Digest = sha256.Sum256(c.Data)
		}
		if c.Data != nil && !known[e.Digest] {
			known[e.Digest] = true
			packed = z.EncodeAll(c.Data, packed[:0])
			if len(packed) >= len(c.Data) {
				packed = append(packed[:0], c.Data...)
			}
			e.Place, e.Stored = m.Data, int64(len(packed))
			m.Data += e.Stored
			if _, err := spool.Write(packed); err != nil {
				return err
			}
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cut slot into chunks: %w", err)
	}
	list := index.Encode(entries)
	m.Index = described(list)
	m.Slot.SHA256 = hex.EncodeToString(whole.Sum(nil))
	return list, entries, nil
}

// described says in the manifest what a list is.
func described(list []byte) bundle.Index {
	sum := sha256.Sum256(list)
	return bundle.Index{Size: int64(len(list)), SHA256: hex.EncodeToString(sum[:])}
}
