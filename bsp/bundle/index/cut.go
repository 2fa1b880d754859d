package index

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/jotfs/fastcdc-go"
)

// The sizes by which a slot is cut into chunks are part of the format: a device finds only chunks that were cut
// by the same sizes.
const (
	minChunk     = 4 << 10
	averageChunk = 16 << 10
	MaxChunk     = 64 << 10 // no chunk is larger
)

// A run of zeros is left out of the chunks if it begins at a block of the file system and is at least this long.
const (
	Block    = 4 << 10 // of the file system
	zeroRun  = 16 * Block
	maxZeros = 1 << 30 // one entry of the index has at most this many
)

// A Cut is one part of a slot's content.
type Cut struct {
	Offset int64
	Length int64
	Data   []byte // valid until the next part; nil for a run of zeros
}

// Chunks cuts size bytes of r into chunks and runs of zeros, and calls each for them in their order. The same bytes are
// always cut in the same way, and a change of some bytes changes only the chunks around it.
func Chunks(r io.Reader, size int64, each func(Cut) error) error {
	c := cutter{in: bufio.NewReaderSize(io.LimitReader(r, size), 4*zeroRun), size: size}
	for c.at < size {
		zeros, err := c.zeros(each)
		if err != nil {
			return err
		}
		if zeros {
			continue
		}
		if err := c.data(each); err != nil {
			return err
		}
	}
	return nil
}

// cutter reads a slot block by block. at is where the next byte that is read belongs.
type cutter struct {
	in   *bufio.Reader
	size int64
	at   int64
}

// peek returns the next bytes, as many as a run of zeros has, or fewer at the end of the slot.
func (c *cutter) peek(n int) ([]byte, error) {
	n = int(min(int64(n), c.size-c.at))
	b, err := c.in.Peek(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the slot is shorter than it should be
	}
	return b, err
}

// atZeros reports whether a run of zeros begins here. A shorter one counts at the end of the slot.
func (c *cutter) atZeros() (bool, error) {
	b, err := c.peek(Block) // most blocks are decided by themselves
	if err != nil || !IsZero(b) {
		return false, err
	}
	b, err = c.peek(zeroRun)
	return err == nil && IsZero(b), err
}

// zeros passes on the run of zeros that begins here, if there is one.
func (c *cutter) zeros(each func(Cut) error) (bool, error) {
	found, err := c.atZeros()
	if err != nil || !found {
		return false, err
	}
	start := c.at
	for c.at < c.size && c.at-start < maxZeros {
		b, err := c.peek(Block)
		if err != nil {
			return true, err
		}
		if !IsZero(b) {
			break
		}
		n, err := c.in.Discard(len(b))
		c.at += int64(n)
		if err != nil {
			return true, err
		}
	}
	return true, each(Cut{Offset: start, Length: c.at - start})
}

// data cuts what follows, up to the next run of zeros.
func (c *cutter) data(each func(Cut) error) error {
	start := c.at
	chunker, err := fastcdc.NewChunker(&extent{c: c}, fastcdc.Options{
		MinSize: minChunk, AverageSize: averageChunk, MaxSize: MaxChunk, BufSize: 4 * MaxChunk,
	})
	if err != nil {
		return err
	}
	for {
		chunk, err := chunker.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		cut := Cut{Offset: start + int64(chunk.Offset), Length: int64(chunk.Length), Data: chunk.Data}
		if err := each(cut); err != nil {
			return err
		}
	}
}

// extent reads from a cutter up to the next run of zeros.
type extent struct {
	c    *cutter
	left int // bytes of the current block
}

// Read returns io.EOF where a run of zeros begins and at the end of the slot.
func (e *extent) Read(p []byte) (int, error) {
	if e.left == 0 {
		if e.c.at == e.c.size {
			return 0, io.EOF
		}
		zeros, err := e.c.atZeros()
		if err != nil {
			return 0, err
		}
		if zeros {
			return 0, io.EOF
		}
		e.left = int(min(Block, e.c.size-e.c.at))
	}
	n, err := e.c.in.Read(p[:min(len(p), e.left)])
	e.left -= n
	e.c.at += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// IsZero reports whether all bytes are zero.
func IsZero(b []byte) bool {
	for len(b) > Block {
		if !bytes.Equal(b[:Block], zeros[:]) {
			return false
		}
		b = b[Block:]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// zeros is never written.
var zeros [Block]byte
