// Package dnswire adds what a forwarder and mDNS need to golang.org/x/net/dns/dnsmessage, which reads and writes the
// messages (RFC 1035): it decides which query gets an answer, which reply belongs to a query of ours, how long a reply
// is kept, and what part of it a client gets.
//
// Records are passed on unchanged, whether their types are known or not; only names that may be compressed are read.
// The package is pure, and all bytes that it reads may be hostile.
//
// Read first: ParseQuery, then ParseReply.
package dnswire

import (
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// Types and classes of records that this system treats specially.
const (
	TypeA    = uint16(dnsmessage.TypeA)
	TypePTR  = uint16(dnsmessage.TypePTR)
	TypeTXT  = uint16(dnsmessage.TypeTXT)
	TypeAAAA = uint16(dnsmessage.TypeAAAA)
	TypeSRV  = uint16(dnsmessage.TypeSRV)
	TypeNSEC = uint16(47)
	TypeANY  = uint16(dnsmessage.TypeALL)
	ClassIN  = uint16(dnsmessage.ClassINET)

	typeDNAME dnsmessage.Type = 39
)

// Response codes.
const (
	Success = int(dnsmessage.RCodeSuccess)
	Format  = int(dnsmessage.RCodeFormatError)
	Failure = int(dnsmessage.RCodeServerFailure)
	NoName  = int(dnsmessage.RCodeNameError)
	NotDone = int(dnsmessage.RCodeNotImplemented)
)

const (
	headerSize = 12
	maxMessage = 1<<16 - 1 // over TCP
	// plainSize is what a client without EDNS accepts in a datagram.
	plainSize = 512
	// OurSize is the size of datagrams that we accept and send: none of them is fragmented.
	OurSize = 1232
)

// Question is what is asked: two equal ones have the same answer.
type Question struct {
	Name      Name
	Type      uint16
	Class     uint16
	DNSSEC    bool // the client wants signatures (DO)
	Unchecked bool // the client checks signatures itself (CD)
}

func (q Question) question() (dnsmessage.Question, error) {
	name, err := dnsmessage.NewName(string(q.Name))
	return dnsmessage.Question{Name: name, Type: dnsmessage.Type(q.Type), Class: dnsmessage.Class(q.Class)}, err
}

func questionOf(q dnsmessage.Question) Question {
	return Question{Name: nameOf(q.Name), Type: uint16(q.Type), Class: uint16(q.Class)}
}

// Query is a client's message.
type Query struct {
	Question
	header dnsmessage.Header
	asked  []dnsmessage.Question // as the client spelt it; none if it could not be read
	edns   bool
	size   int // of the datagrams that the client accepts
}

var errQuery = errors.New("message is not a query")

// ParseQuery reads a client's message. If the error is nil and code is not Success, the client is to get that code.
// With an error it gets no answer.
func ParseQuery(p []byte) (q Query, code int, err error) {
	var parser dnsmessage.Parser
	q.size = plainSize
	if q.header, err = parser.Start(p); err != nil || q.header.Response {
		return q, 0, errQuery // two servers would answer each other for ever
	}
	if q.header.OpCode != 0 {
		return q, NotDone, nil
	}
	asked, err := parser.AllQuestions()
	if err != nil || len(asked) != 1 {
		return q, Format, nil
	}
	q.Question, q.asked = questionOf(asked[0]), asked
	q.Unchecked = q.header.CheckingDisabled
	_, answer := parser.AnswerHeader()
	_, authority := parser.AuthorityHeader()
	if answer != dnsmessage.ErrSectionDone || authority != dnsmessage.ErrSectionDone {
		return q, Format, nil
	}
	further, err := sectionsOf(&parser)[2].records(false)
	if err != nil {
		return q, Format, nil
	}
	for _, r := range further {
		if r.Header.Type == dnsmessage.TypeOPT && !q.edns {
			q.edns, q.size = true, max(plainSize, int(r.Header.Class))
			q.DNSSEC = r.Header.DNSSECAllowed()
		}
	}
	return q, Success, nil
}

// Code returns the reply to q that consists of a response code.
func (q Query) Code(code int) []byte {
	return q.pack(dnsmessage.Header{RCode: dnsmessage.RCode(code)}, nil, nil)
}

// pack returns a reply to q with the records and, if the client knows EDNS, with ours. Of the header, what repeats the
// query is set here.
func (q Query) pack(h dnsmessage.Header, answers, authorities []dnsmessage.Resource) []byte {
	h.ID, h.OpCode, h.Response, h.RecursionAvailable = q.header.ID, q.header.OpCode, true, true
	h.RecursionDesired, h.CheckingDisabled = q.header.RecursionDesired, q.header.CheckingDisabled
	m := dnsmessage.Message{Header: h, Questions: q.asked, Answers: answers, Authorities: authorities}
	if q.edns {
		m.Additionals = []dnsmessage.Resource{opt(q.DNSSEC)}
	}
	p, err := m.Pack()
	if err != nil || len(p) > maxMessage {
		return q.Code(Failure)
	}
	return p
}

// opt returns our EDNS record.
func opt(dnssec bool) dnsmessage.Resource {
	var h dnsmessage.ResourceHeader
	_ = h.SetEDNS0(OurSize, dnsmessage.RCodeSuccess, dnssec) // never fails
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.OPTResource{}}
}

// Records returns a reply with these records of the type that q asks for, each given by its data, all with the asked
// name.
func (q Query) Records(ttl uint32, data ...[]byte) []byte {
	var answers []dnsmessage.Resource
	for _, d := range data {
		asked := q.asked[0]
		answers = append(answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: asked.Class, TTL: ttl},
			Body:   &dnsmessage.UnknownResource{Type: asked.Type, Data: d}})
	}
	return q.pack(dnsmessage.Header{}, answers, nil)
}

// Fit returns p if it fits into a datagram for the client, else the reply that makes the client ask over TCP.
func (q Query) Fit(p []byte) []byte {
	if len(p) <= q.size && len(p) <= OurSize {
		return p
	}
	var parser dnsmessage.Parser
	h, _ := parser.Start(p) // it is longer than a header
	h.Truncated = true
	return q.pack(h, nil, nil)
}
