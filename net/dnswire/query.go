// Package dnswire reads and writes what a forwarder needs of DNS messages (RFC 1035): header, question, EDNS, the
// boundaries and lifetimes of records, and names.
//
// It passes records on as they are and does not know most of their types. All of it is pure, and all bytes that it
// reads may be hostile.
//
// Read first: ParseQuery, then ParseReply.
package dnswire

import (
	"encoding/binary"
	"errors"
)

// Types and classes of records that this system treats specially.
const (
	TypeA     uint16 = 1
	TypeNS    uint16 = 2
	TypeCNAME uint16 = 5
	TypeSOA   uint16 = 6
	TypePTR   uint16 = 12
	TypeMX    uint16 = 15
	TypeTXT   uint16 = 16
	TypeAAAA  uint16 = 28
	TypeSRV   uint16 = 33
	TypeDNAME uint16 = 39
	TypeOPT   uint16 = 41
	TypeNSEC  uint16 = 47
	TypeANY   uint16 = 255
	ClassIN   uint16 = 1
)

// Response codes.
const (
	Success  = 0
	Format   = 1
	Failure  = 2
	NoName   = 3
	NotDone  = 4
	Refused  = 5
	maxRcode = 15
)

// Bits of the second and third word of the header.
const (
	flagReply     uint16 = 1 << 15
	maskOpcode    uint16 = 0xF << 11
	flagTruncated uint16 = 1 << 9
	flagDesired   uint16 = 1 << 8 // RD
	flagAvailable uint16 = 1 << 7 // RA
	flagAuthentic uint16 = 1 << 5 // AD
	flagUnchecked uint16 = 1 << 4 // CD
)

const (
	headerSize = 12
	optSize    = 11
	// plainSize is what a client without EDNS accepts in a datagram.
	plainSize = 512
	// OurSize is the size of datagrams that we accept and send: none of them is fragmented.
	OurSize = 1232
	flagDO  = 1 << 15
)

// Question is what is asked: two equal ones have the same answer.
type Question struct {
	Name      Name
	Type      uint16
	Class     uint16
	DNSSEC    bool // the client wants signatures (DO)
	Unchecked bool // the client checks signatures itself (CD)
}

// Query is a client's message.
type Query struct {
	Question
	ID    uint16
	flags uint16
	asked []byte // the question as the client spelt it
	edns  bool
	size  int // of the datagrams that the client accepts
}

var errQuery = errors.New("message is not a query")

// ParseQuery reads a client's message. If the error is nil and code is not Success, the client is to get that code.
// With an error it gets no answer.
func ParseQuery(p []byte) (q Query, code int, err error) {
	if len(p) < headerSize {
		return q, 0, errQuery
	}
	q.ID, q.flags, q.size = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), plainSize
	if q.flags&flagReply != 0 {
		return q, 0, errQuery // two servers would answer each other for ever
	}
	if q.flags&maskOpcode != 0 {
		return q, NotDone, nil
	}
	if counts(p) != [4]int{1, 0, 0, counts(p)[3]} {
		return q, Format, nil
	}
	name, at, err := readName(p, headerSize)
	if err != nil || at+4 > len(p) || at-headerSize != len(name) { // no pointer: there is nothing to point to
		return q, Format, nil
	}
	q.Name, q.Type, q.Class = name, binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(p[at+2:])
	q.Unchecked = q.flags&flagUnchecked != 0
	q.asked = append([]byte(nil), p[headerSize:at+4]...)
	at += 4
	for range counts(p)[3] {
		r, next, err := readRecord(p, at)
		if err != nil {
			return q, Format, nil
		}
		if r.kind == TypeOPT && !q.edns {
			q.edns, q.size = true, max(plainSize, int(r.class))
			q.DNSSEC = r.ttl&flagDO != 0
		}
		at = next
	}
	return q, Success, nil
}

func counts(p []byte) [4]int {
	var out [4]int
	for i := range out {
		out[i] = int(binary.BigEndian.Uint16(p[4+2*i:]))
	}
	return out
}

// Code returns the reply to q that consists of a response code.
func (q Query) Code(code int) []byte {
	out := q.head(code, 0)
	return q.finish(out)
}

// head returns header and question of a reply with so many answers.
func (q Query) head(code, answers int) []byte {
	out := make([]byte, headerSize, headerSize+len(q.asked)+optSize+16*answers)
	binary.BigEndian.PutUint16(out, q.ID)
	flags := flagReply | flagAvailable | q.flags&(maskOpcode|flagDesired|flagUnchecked) | uint16(code&maxRcode)
	binary.BigEndian.PutUint16(out[2:], flags)
	if len(q.asked) > 0 {
		binary.BigEndian.PutUint16(out[4:], 1)
	}
	binary.BigEndian.PutUint16(out[6:], uint16(answers))
	return append(out, q.asked...)
}

// finish adds our EDNS record if the client knows EDNS.
func (q Query) finish(p []byte) []byte {
	if !q.edns {
		return p
	}
	binary.BigEndian.PutUint16(p[10:], 1)
	return appendOPT(p, q.DNSSEC)
}

func appendOPT(p []byte, dnssec bool) []byte {
	flags := uint32(0)
	if dnssec {
		flags = flagDO
	}
	p = append(p, 0)
	p = binary.BigEndian.AppendUint16(p, TypeOPT)
	p = binary.BigEndian.AppendUint16(p, OurSize)
	p = binary.BigEndian.AppendUint32(p, flags)
	return binary.BigEndian.AppendUint16(p, 0)
}

// Records returns a reply with these records of the type that q asks for, each given by its data, all with the asked
// name.
func (q Query) Records(ttl uint32, data ...[]byte) []byte {
	out := q.head(Success, len(data))
	for _, d := range data {
		out = append(out, 0xC0, headerSize) // the name of the question
		out = binary.BigEndian.AppendUint16(out, q.Type)
		out = binary.BigEndian.AppendUint16(out, q.Class)
		out = binary.BigEndian.AppendUint32(out, ttl)
		out = binary.BigEndian.AppendUint16(out, uint16(len(d)))
		out = append(out, d...)
	}
	return q.finish(out)
}

// Fit returns p if it fits into a datagram for the client, else the reply that makes the client ask over TCP.
func (q Query) Fit(p []byte) []byte {
	if len(p) <= q.size && len(p) <= OurSize {
		return p
	}
	out := q.head(Success, 0)
	copy(out[2:4], p[2:4])
	out[2] |= byte(flagTruncated >> 8)
	return q.finish(out)
}
