package chunk

import (
	"bytes"

	"resinos/services/log/entry"
)

// Scanned is what is left to know of a chunk after all its records have been read.
type Scanned struct {
	*Decoder
	Valid int // bytes up to the end of the last whole record
	Base  int // bytes before the first entry
}

// Scan reads a whole chunk. Only a broken header is an error; behind the first broken record nothing is looked at.
func Scan(b []byte) (Scanned, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Scanned{}, err
	}
	s := Scanned{Decoder: NewDecoder(h), Valid: HeaderSize, Base: HeaderSize}
	if h.Codec != CodecPlain {
		s.unpack(b)
		return s, nil
	}
	for s.Valid < len(b) {
		payload, n, err := nextPayload(b[s.Valid:])
		if err != nil {
			break
		}
		if _, _, err := s.Decode(payload, new(entry.Entry)); err != nil {
			break
		}
		s.Valid += n
		if s.Seq == h.First {
			s.Base = s.Valid
		}
	}
	return s, nil
}

// unpack is scan for a packed chunk, of which only whole frames are valid.
func (s *Scanned) unpack(b []byte) {
	f := NewFrames(bytes.NewReader(b), int64(len(b)))
	behind := false // something of a frame was taken in whose end has not been seen
	for {
		payload, err := f.Next()
		if err == nil {
			behind = true
			_, _, err = s.Decode(payload, new(entry.Entry))
		}
		if err != nil {
			break
		}
		if f.left == 0 && len(f.rest) == 0 {
			s.Valid, behind = int(f.off), false
		}
	}
	if behind { // a broken frame must leave neither entries nor sources behind
		s.Decoder = NewDecoder(s.Header)
		s.unpack(b[:s.Valid])
	}
}
