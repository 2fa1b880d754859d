package dnswire

import (
	"encoding/binary"

	"golang.org/x/net/dns/dnsmessage"
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

// maxRecords bounds what one section of a message makes us keep.
const maxRecords = 1024

// ParseMessage reads a message. What has a name that dnsmessage refuses, such as one with a dot within a label, is left
// out: others on the link may use such names, and ask for ours in the same message.
func ParseMessage(p []byte) (Message, error) {
	var parser dnsmessage.Parser
	h, err := parser.Start(p)
	if err != nil || h.OpCode != 0 {
		return Message{}, ErrReply
	}
	m := Message{ID: h.ID, Reply: h.Response, Authoritative: h.Authoritative, Truncated: h.Truncated}
	for {
		q, err := parser.Question()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err == nil {
			m.Questions = append(m.Questions, questionOf(q))
		} else if parser.SkipQuestion() != nil {
			return Message{}, ErrReply
		}
	}
	sections := sectionsOf(&parser)
	for i, to := range []*[]Record{&m.Answer, &m.Authority, &m.Further} {
		read, err := sections[i].records(true)
		if err != nil {
			return Message{}, err
		}
		for _, r := range read {
			data, err := dataOf(r.Body)
			if err != nil {
				return Message{}, ErrReply
			}
			*to = append(*to, Record{Name: nameOf(r.Header.Name), Type: uint16(r.Header.Type),
				Class: uint16(r.Header.Class), TTL: r.Header.TTL, Data: data})
		}
	}
	return m, nil
}

// Pack returns the bytes of m. Its names must be valid.
func (m Message) Pack() []byte {
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: m.Reply, Authoritative: m.Authoritative,
		Truncated: m.Truncated}}
	for _, one := range m.Questions {
		q, _ := one.question() // Pack refuses it
		out.Questions = append(out.Questions, q)
	}
	resources := func(records []Record) (rs []dnsmessage.Resource) {
		for _, r := range records {
			name, _ := dnsmessage.NewName(string(r.Name)) // Pack refuses it
			rs = append(rs, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.Class(r.Class), TTL: r.TTL},
				Body:   &dnsmessage.UnknownResource{Type: dnsmessage.Type(r.Type), Data: r.Data}})
		}
		return rs
	}
	out.Answers, out.Authorities, out.Additionals = resources(m.Answer), resources(m.Authority), resources(m.Further)
	p, err := out.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

// section is one of the three sections of records of a message.
type section struct {
	parser *dnsmessage.Parser
	header func() (dnsmessage.ResourceHeader, error)
	whole  func() (dnsmessage.Resource, error)
	skip   func() error
}

// sectionsOf returns answers, authority and additional records, which must be read in this order.
func sectionsOf(p *dnsmessage.Parser) [3]section {
	return [3]section{{p, p.AnswerHeader, p.Answer, p.SkipAnswer},
		{p, p.AuthorityHeader, p.Authority, p.SkipAuthority},
		{p, p.AdditionalHeader, p.Additional, p.SkipAdditional}}
}

// records reads the section. A record with a name that cannot be read is left out, or an error.
func (s section) records(leaveOut bool) (out []dnsmessage.Resource, err error) {
	for range maxRecords {
		h, err := s.header()
		if err == dnsmessage.ErrSectionDone {
			return out, nil
		}
		var body dnsmessage.ResourceBody
		before := *s.parser
		if err == nil {
			body, err = s.body(h.Type)
		}
		if h.TTL > 1<<31-1 && h.Type != dnsmessage.TypeOPT {
			h.TTL = 0 // RFC 2181, 8
		}
		if err == nil {
			out = append(out, dnsmessage.Resource{Header: h, Body: body})
			continue
		}
		*s.parser = before
		if !leaveOut || s.skip() != nil {
			return nil, ErrReply
		}
	}
	return nil, ErrReply
}

// compressed has the types whose names may be compressed. dnsmessage does not know those that are false: nobody uses
// them.
var compressed = map[dnsmessage.Type]bool{
	dnsmessage.TypeNS: true, dnsmessage.TypeCNAME: true, dnsmessage.TypeSOA: true, dnsmessage.TypePTR: true,
	dnsmessage.TypeMX: true, dnsmessage.TypeSRV: true,
	3: false, 4: false, 7: false, 8: false, 9: false, dnsmessage.TypeMINFO: false,
}

// body reads the data of the record whose header has been read. Names that may be compressed are read, and all other
// data stays as it is.
func (s section) body(kind dnsmessage.Type) (dnsmessage.ResourceBody, error) {
	behind := *s.parser
	raw, err := behind.UnknownResource()
	if err != nil { // the data leaves the message
		return nil, err
	}
	known, names := compressed[kind]
	if !names {
		*s.parser = behind
		return &raw, nil
	}
	if !known {
		return nil, ErrReply
	}
	r, err := s.whole()
	if err != nil && kind == dnsmessage.TypeSOA && len(raw.Data) > soaSize {
		*s.parser = behind
		return soaWithoutNames(raw.Data[len(raw.Data)-soaSize:]), nil
	}
	return r.Body, err
}

// soaSize is the size of the numbers of an SOA record.
const soaSize = 20

// soaWithoutNames returns an SOA record with these numbers. The mailbox of a zone may be first\.last.example.org, which
// dnsmessage refuses; clients need only the numbers, without which they would not keep that a name does not exist.
func soaWithoutNames(p []byte) *dnsmessage.SOAResource {
	root := dnsmessage.MustNewName(".")
	n := binary.BigEndian.Uint32
	return &dnsmessage.SOAResource{NS: root, MBox: root, Serial: n(p), Refresh: n(p[4:]), Retry: n(p[8:]),
		Expire: n(p[12:]), MinTTL: n(p[16:])}
}

// namesOf returns the names within a record's data.
func namesOf(body dnsmessage.ResourceBody) []*dnsmessage.Name {
	switch r := body.(type) {
	case *dnsmessage.NSResource:
		return []*dnsmessage.Name{&r.NS}
	case *dnsmessage.CNAMEResource:
		return []*dnsmessage.Name{&r.CNAME}
	case *dnsmessage.PTRResource:
		return []*dnsmessage.Name{&r.PTR}
	case *dnsmessage.MXResource:
		return []*dnsmessage.Name{&r.MX}
	case *dnsmessage.SRVResource:
		return []*dnsmessage.Name{&r.Target}
	case *dnsmessage.SOAResource:
		return []*dnsmessage.Name{&r.NS, &r.MBox}
	}
	return nil
}

// dataOf returns the data of a record with its names in small letters.
func dataOf(body dnsmessage.ResourceBody) ([]byte, error) {
	if raw, ok := body.(*dnsmessage.UnknownResource); ok {
		return raw.Data, nil
	}
	for _, n := range namesOf(body) {
		*n = dnsmessage.MustNewName(lower(n.String()))
	}
	root := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(".")}
	p, err := (&dnsmessage.Message{Answers: []dnsmessage.Resource{{Header: root, Body: body}}}).Pack()
	if err != nil {
		return nil, err
	}
	return p[headerSize+1+10:], nil // behind the root, type, class, lifetime and length
}
