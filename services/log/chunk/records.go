package chunk

import (
	"errors"
	"io"
	"os"
)

// window is the part of a chunk that a reader holds in memory; it takes any record whole.
const window = 32 << 10

// Records walks over the records of a plain chunk.
type Records struct {
	File *os.File
	off  int64  // in the file, of rest's end
	rest []byte // read but not returned, part of buf
	buf  []byte
}

// Begin reads the header.
func (p *Records) Begin() (Header, error) {
	if p.buf == nil {
		p.buf = make([]byte, window)
	}
	p.off, p.rest = HeaderSize, nil
	if _, err := p.File.ReadAt(p.buf[:HeaderSize], 0); err != nil {
		return Header{}, err
	}
	return ParseHeader(p.buf[:HeaderSize])
}

// Next returns the next record's payload, valid until the next call, or io.EOF if there is no whole one before limit.
func (p *Records) Next(limit int64) ([]byte, error) {
	for {
		payload, n, err := nextPayload(p.rest)
		if err == nil {
			p.rest = p.rest[n:]
			return payload, nil
		}
		if !errors.Is(err, errShort) {
			return nil, err
		}
		kept := copy(p.buf, p.rest)
		p.rest = p.buf[:kept]
		room := min(int64(len(p.buf)-kept), limit-p.off)
		if room <= 0 {
			return nil, io.EOF
		}
		got, err := p.File.ReadAt(p.buf[kept:kept+int(room)], p.off)
		p.off += int64(got)
		p.rest = p.buf[:kept+got]
		if got == 0 {
			return nil, err
		}
	}
}
