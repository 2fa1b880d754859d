// Package verity owns the hash tree over a read-only file system, and the device of the kernel that checks each block
// against it when it is read (dm-verity).
//
// The builder appends the tree to the file system's file, where a file system ignores it:
//
//	data blocks | top level, one block | ... | lowest level: a SHA-256 of each data block
//
// All blocks have 4096 bytes. A block of a level has the digests of 128 blocks of the level below, and zeros behind the
// last one. There is no salt and no header: Root has all that a check needs, and has to come from a trusted place. The
// package never decides whether a device boots a root that has no tree. Read Root first.
package verity

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// BlockSize is the size of all blocks, of data and of the tree, in bytes.
const BlockSize = 4096

// mostBlocks bounds what Parse takes: a root of 16 TiB.
const mostBlocks = 1 << 32

// Root is what a file system is checked with: the digest of its tree's top block, and how many blocks it has.
type Root struct {
	Hash   string // SHA-256, lower-case hexadecimal digits
	Blocks int64  // of data; the tree begins behind them
}

// String returns the line that Parse reads.
func (r Root) String() string { return fmt.Sprintf("sha256 %s %d\n", r.Hash, r.Blocks) }

// Parse reads the line that String writes.
func Parse(text string) (Root, error) {
	var r Root
	n, err := fmt.Sscanf(text, "sha256 %s %d\n", &r.Hash, &r.Blocks)
	if err != nil || n != 2 {
		return Root{}, fmt.Errorf("parse verity root %.80q: want sha256, a digest and a number of blocks", text)
	}
	digest, err := hex.DecodeString(r.Hash)
	if err != nil || len(digest) != sha256.Size || strings.ToLower(r.Hash) != r.Hash {
		return Root{}, fmt.Errorf("parse verity root: %.80q is no SHA-256", r.Hash)
	}
	if r.Blocks < 1 || r.Blocks > mostBlocks || r.String() != text {
		return Root{}, fmt.Errorf("parse verity root %.80q: want one line and 1 to %d blocks", text, int64(mostBlocks))
	}
	return r, nil
}

// File is what Append changes.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Append computes the tree of the first size bytes of a file and writes it behind them. A last block that is not full
// is filled with zeros first.
func Append(f File, size int64) (Root, error) {
	if size < 1 {
		return Root{}, errors.New("compute hash tree: the file is empty")
	}
	blocks := (size + BlockSize - 1) / BlockSize
	if pad := blocks*BlockSize - size; pad > 0 {
		if _, err := f.WriteAt(make([]byte, pad), size); err != nil {
			return Root{}, fmt.Errorf("compute hash tree: %w", err)
		}
	}
	level, err := digests(bufio.NewReaderSize(io.NewSectionReader(f, 0, blocks*BlockSize), 1<<20))
	if err != nil {
		return Root{}, fmt.Errorf("compute hash tree: %w", err)
	}
	var levels [][]byte // the lowest first
	for len(level) > sha256.Size {
		level = append(level, make([]byte, -len(level)&(BlockSize-1))...)
		levels = append(levels, level)
		if level, err = digests(bytes.NewReader(level)); err != nil {
			return Root{}, fmt.Errorf("compute hash tree: %w", err)
		}
	}
	at := blocks * BlockSize
	for i := len(levels) - 1; i >= 0; i-- {
		if _, err := f.WriteAt(levels[i], at); err != nil {
			return Root{}, fmt.Errorf("write hash tree: %w", err)
		}
		at += int64(len(levels[i]))
	}
	return Root{Hash: hex.EncodeToString(level), Blocks: blocks}, nil
}

// digests returns the digests of all blocks, one after the other.
func digests(r io.Reader) (all []byte, err error) {
	block := make([]byte, BlockSize)
	for {
		_, err := io.ReadFull(r, block)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(block)
		all = append(all, sum[:]...)
	}
}
