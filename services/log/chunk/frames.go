package chunk

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	frameHead = 12
	// frameSize is how many bytes of records a frame takes before it ends. It bounds what a broken byte costs, and
	// what the packer does without a pause.
	frameSize = 64 << 10
	maxFrame  = frameSize + maxPayload + recordHead
	// maxPacked is above what deflate makes of maxFrame bytes that it cannot make smaller.
	maxPacked = maxFrame + maxFrame/64 + 64
)

// Frames walks over the records of a packed chunk with bounded memory: one deflated frame, the window of deflate and
// our own.
type Frames struct {
	src  io.ReaderAt
	size int64
	off  int64 // of the next frame

	packed  []byte
	in      *bytes.Reader
	inflate io.ReadCloser
	left    int    // bytes of the frame that are not inflated yet
	rest    []byte // inflated but not returned, part of buf
	buf     []byte
}

// NewFrames returns a reader of the frames in src, a packed or grown chunk of size bytes.
func NewFrames(src io.ReaderAt, size int64) *Frames {
	in := bytes.NewReader(nil)
	f := &Frames{in: in, inflate: flate.NewReader(in), buf: make([]byte, window)}
	f.Reset(src, size)
	return f
}

// Reset begins with another chunk.
func (f *Frames) Reset(src io.ReaderAt, size int64) {
	f.src, f.size, f.off, f.left, f.rest = src, size, HeaderSize, 0, nil
}

// Next returns the next record's payload, valid until the next call, or io.EOF behind the last whole frame.
func (f *Frames) Next() ([]byte, error) {
	for {
		n, head := binary.Uvarint(f.rest)
		if head < 0 || head > 0 && (n == 0 || n > maxPayload) {
			return nil, ErrCorrupt
		}
		if head > 0 && uint64(len(f.rest)-head) >= n {
			payload := f.rest[head : head+int(n)]
			f.rest = f.rest[head+int(n):]
			return payload, nil
		}
		if err := f.more(); err != nil {
			return nil, err
		}
	}
}

// more inflates a piece of the frame, or goes on to the next one.
func (f *Frames) more() error {
	if f.left == 0 {
		if len(f.rest) > 0 {
			return ErrCorrupt // a frame holds whole records
		}
		return f.load()
	}
	kept := copy(f.buf, f.rest)
	n, err := io.ReadFull(f.inflate, f.buf[kept:kept+min(len(f.buf)-kept, f.left)])
	if err != nil {
		return ErrCorrupt
	}
	f.left -= n
	f.rest = f.buf[:kept+n]
	return nil
}

func (f *Frames) load() error {
	if f.size-f.off < frameHead {
		return io.EOF
	}
	var head [frameHead]byte
	if _, err := f.src.ReadAt(head[:], f.off); err != nil {
		return fmt.Errorf("read log chunk: %w", err)
	}
	plain, packed := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if plain == 0 || plain > maxFrame || packed > maxPacked {
		return ErrCorrupt
	}
	if f.off+frameHead+int64(packed) > f.size {
		return io.EOF
	}
	if cap(f.packed) < int(packed) {
		f.packed = make([]byte, packed)
	}
	f.packed = f.packed[:packed]
	if _, err := f.src.ReadAt(f.packed, f.off+frameHead); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read log chunk: %w", err)
	}
	if checksum(f.packed) != binary.LittleEndian.Uint32(head[8:]) {
		return ErrCorrupt
	}
	f.in.Reset(f.packed)
	if err := f.inflate.(flate.Resetter).Reset(f.in, nil); err != nil {
		return fmt.Errorf("read log chunk: %w", err)
	}
	f.off += frameHead + int64(packed)
	f.left = int(plain)
	return nil
}

// A Framer is the other direction: it makes frames of payloads.
type Framer struct {
	deflate *flate.Writer
	out     bytes.Buffer // the head's room, then what is deflated
	plain   int          // bytes given to deflate
	head    []byte
}

// packLevel is where deflate's better search begins to cost more than it gains on logs
// (docs/decisions/0017-log-chunks-deflate.md).
const packLevel = 3

// NewFramer returns a Framer, which holds a megabyte.
func NewFramer() *Framer {
	deflate, err := flate.NewWriter(io.Discard, packLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	f := &Framer{deflate: deflate}
	f.begin()
	return f
}

func (f *Framer) begin() {
	f.out.Reset()
	f.out.Write(make([]byte, frameHead))
	f.deflate.Reset(&f.out)
	f.plain = 0
}

// add takes a payload and reports whether the frame has become full.
func (f *Framer) add(payload []byte) (full bool, err error) {
	f.head = binary.AppendUvarint(f.head[:0], uint64(len(payload)))
	for _, part := range [][]byte{f.head, payload} {
		if _, err := f.deflate.Write(part); err != nil {
			return false, err
		}
		f.plain += len(part)
	}
	return f.plain >= frameSize, nil
}

// finish writes the frame, if it holds anything, to w and begins the next one.
func (f *Framer) finish(w io.Writer) error {
	if f.plain == 0 {
		return nil
	}
	if err := f.deflate.Close(); err != nil {
		return err
	}
	b := f.out.Bytes()
	putFrameHead(b, f.plain)
	_, err := w.Write(b)
	f.begin()
	return err
}

// putFrameHead fills the head of frame, which stands for plain bytes of records.
func putFrameHead(frame []byte, plain int) {
	binary.LittleEndian.PutUint32(frame, uint32(plain))
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameHead))
	binary.LittleEndian.PutUint32(frame[8:], checksum(frame[frameHead:]))
}
