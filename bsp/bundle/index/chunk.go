package index

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Unpacker turns stored bytes into chunks, and never needs more memory than the largest chunk.
type Unpacker struct {
	zstd *zstd.Decoder
	out  []byte
}

// NewUnpacker returns an Unpacker that Close releases.
func NewUnpacker() (*Unpacker, error) {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxChunk),
		zstd.WithDecodeAllCapLimit(true))
	return &Unpacker{zstd: d, out: make([]byte, MaxChunk)}, err
}

// Close releases the memory.
func (u *Unpacker) Close() { u.zstd.Close() }

// Chunk returns the verified chunk of an entry; it is valid until the next call.
func (u *Unpacker) Chunk(e Entry, stored []byte) ([]byte, error) {
	data := stored
	if e.Stored < e.Length {
		var err error
		if data, err = u.zstd.DecodeAll(stored, u.out[:0:e.Length]); err != nil {
			return nil, fmt.Errorf("unpack chunk at %d of the slot: %w", e.Offset, err)
		}
	}
	if int64(len(data)) != e.Length || sha256.Sum256(data) != e.Digest {
		return nil, fmt.Errorf("verify chunk at %d of the slot: %w", e.Offset, ErrDigest)
	}
	return data, nil
}

// ErrDigest is the fault of a chunk that is not what the index says.
var ErrDigest = errors.New("its sha256 is not that of the index: the bundle is damaged or was replaced meanwhile")
