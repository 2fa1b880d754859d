package dnswire

import (
	"encoding/binary"
	"slices"
)

// Message is a whole message, for those that write their own records (mDNS).
type Message struct {
	ID                         uint16
	Reply                      bool
	Authoritative              bool
	Truncated                  bool
	Questions                  []Question
	Answer, Authority, Further []Record
}

// Record is one resource record. Names within Data are whole and in small letters.
type Record struct {
	Name  Name
	Type  uint16
	Class uint16
	TTL   uint32
	Data  []byte
}

// maxRecords bounds what one message makes us keep.
const maxRecords = 256

// ParseMessage reads a message. Names are expanded within the data of the types that may compress them.
func ParseMessage(p []byte) (Message, error) {
	if len(p) < headerSize {
		return Message{}, ErrReply
	}
	flags, n := binary.BigEndian.Uint16(p[2:]), counts(p)
	if flags&maskOpcode != 0 || n[0]+n[1]+n[2]+n[3] > maxRecords {
		return Message{}, ErrReply
	}
	m := Message{ID: binary.BigEndian.Uint16(p), Reply: flags&flagReply != 0, Truncated: flags&flagTruncated != 0,
		Authoritative: flags&flagAuthority != 0}
	at := headerSize
	for range n[0] {
		name, next, err := readName(p, at)
		if err != nil || next+4 > len(p) {
			return Message{}, ErrReply
		}
		m.Questions = append(m.Questions, Question{Name: name, Type: binary.BigEndian.Uint16(p[next:]),
			Class: binary.BigEndian.Uint16(p[next+2:])})
		at = next + 4
	}
	for i, section := range []*[]Record{&m.Answer, &m.Authority, &m.Further} {
		for range n[i+1] {
			r, next, err := readRecord(p, at)
			if err != nil {
				return Message{}, ErrReply
			}
			data, err := r.expanded(p)
			if err != nil {
				return Message{}, ErrReply
			}
			*section = append(*section, Record{Name: r.owner, Type: r.kind, Class: r.class, TTL: r.ttl, Data: data})
			at = next
		}
	}
	return m, nil
}

const flagAuthority uint16 = 1 << 10 // AA

// expanded returns the data with its names written out.
func (r record) expanded(p []byte) ([]byte, error) {
	names, err := r.names(p)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return slices.Clone(p[r.from:r.to]), nil
	}
	var before, after []byte
	switch r.kind {
	case TypeMX:
		before = p[r.from : r.from+2]
	case TypeSRV:
		before = p[r.from : r.from+6]
	case TypeSOA:
		after = p[r.to-20 : r.to]
	}
	out := slices.Clone(before)
	for _, n := range names {
		out = append(out, n...)
	}
	return append(out, after...), nil
}

// Pack returns the bytes of m. Names are not compressed.
func (m Message) Pack() []byte {
	p := make([]byte, headerSize, 512)
	binary.BigEndian.PutUint16(p, m.ID)
	var flags uint16
	for bit, set := range map[uint16]bool{
		flagReply: m.Reply, flagAuthority: m.Authoritative, flagTruncated: m.Truncated,
	} {
		if set {
			flags |= bit
		}
	}
	binary.BigEndian.PutUint16(p[2:], flags)
	for i, n := range []int{len(m.Questions), len(m.Answer), len(m.Authority), len(m.Further)} {
		binary.BigEndian.PutUint16(p[4+2*i:], uint16(n))
	}
	for _, q := range m.Questions {
		p = append(p, q.Name...)
		p = binary.BigEndian.AppendUint16(p, q.Type)
		p = binary.BigEndian.AppendUint16(p, q.Class)
	}
	for _, r := range slices.Concat(m.Answer, m.Authority, m.Further) {
		p = append(p, r.Name...)
		p = binary.BigEndian.AppendUint16(p, r.Type)
		p = binary.BigEndian.AppendUint16(p, r.Class)
		p = binary.BigEndian.AppendUint32(p, r.TTL)
		p = binary.BigEndian.AppendUint16(p, uint16(len(r.Data)))
		p = append(p, r.Data...)
	}
	return p
}
