package dnswire

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// Sent is a query of ours, which a server is to answer.
type Sent struct {
	Bytes    []byte
	question []byte // as we spelt it
}

// Ask returns the message that asks a server. Random bits of the caller decide id and spelling: each letter of the name
// is large or small (draft-vixie-dnsext-dns0x20), which a reply must repeat.
func (q Question) Ask(id uint16, spelling []byte, edns bool) Sent {
	p := make([]byte, headerSize, headerSize+len(q.Name)+4+optSize)
	binary.BigEndian.PutUint16(p, id)
	flags := flagDesired
	if q.Unchecked {
		flags |= flagUnchecked
	}
	binary.BigEndian.PutUint16(p[2:], flags)
	binary.BigEndian.PutUint16(p[4:], 1)
	letter := 0
	rest := 0 // bytes of the label that are left
	for i := range len(q.Name) {
		c := q.Name[i]
		if rest == 0 {
			rest = int(c)
			p = append(p, c)
			continue
		}
		rest--
		if c >= 'a' && c <= 'z' && len(spelling) > 0 {
			if spelling[letter/8%len(spelling)]>>(letter%8)&1 != 0 {
				c -= 'a' - 'A'
			}
			letter++
		}
		p = append(p, c)
	}
	p = binary.BigEndian.AppendUint16(p, q.Type)
	p = binary.BigEndian.AppendUint16(p, q.Class)
	s := Sent{question: slices.Clone(p[headerSize:])}
	if edns {
		binary.BigEndian.PutUint16(p[10:], 1)
		p = appendOPT(p, q.DNSSEC)
	}
	s.Bytes = p
	return s
}

// Errors of ParseReply by which the caller decides what to do next.
var (
	ErrOther    = errors.New("reply to another question") // perhaps forged: go on waiting
	ErrSpelling = errors.New("reply with another spelling of the name")
	ErrReply    = errors.New("reply is not valid")
)

// Reply is a server's answer that has been checked.
type Reply struct {
	Code      int
	Truncated bool
	Lifetime  time.Duration // how long it may be kept; 0: not at all

	body []byte // header, question, answers, authority
	ttls []int  // offsets of the lifetimes in body
}

// record is one resource record; data is its part of the message.
type record struct {
	owner    Name
	kind     uint16
	class    uint16
	ttl      uint32
	ttlAt    int
	from, to int
}

func readRecord(p []byte, at int) (r record, next int, err error) {
	if r.owner, at, err = readName(p, at); err != nil {
		return r, 0, err
	}
	if at+10 > len(p) {
		return r, 0, ErrReply
	}
	r.kind, r.class = binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(p[at+2:])
	r.ttl, r.ttlAt = binary.BigEndian.Uint32(p[at+4:]), at+4
	r.from = at + 10
	r.to = r.from + int(binary.BigEndian.Uint16(p[at+8:]))
	if r.to > len(p) {
		return r, 0, ErrReply
	}
	if r.ttl > 1<<31-1 {
		r.ttl = 0 // RFC 2181, 8
	}
	return r, r.to, nil
}

// names returns the names within the data of r, and an error if one of them is wrong or leaves the data.
func (r record) names(p []byte) ([]Name, error) {
	skip, count := 0, 1
	switch r.kind {
	case TypeCNAME, TypeDNAME, TypeNS, TypePTR:
	case TypeMX:
		skip = 2
	case TypeSRV:
		skip = 6
	case TypeSOA:
		count = 2
	default:
		return nil, nil
	}
	at := r.from + skip
	var out []Name
	for range count {
		n, next, err := readName(p, at)
		if err != nil || next > r.to {
			return nil, ErrReply
		}
		out, at = append(out, n), next
	}
	if r.kind == TypeSOA && at+20 != r.to {
		return nil, ErrReply
	}
	return out, nil
}

// ParseReply checks a server's message against the query. Each name in it must be valid, and each answer must belong to
// the asked name or to one that it leads to by CNAME. What the server adds beyond the question is dropped.
func (s Sent) ParseReply(p []byte) (Reply, error) {
	if len(p) < headerSize || binary.BigEndian.Uint16(p) != binary.BigEndian.Uint16(s.Bytes) ||
		binary.BigEndian.Uint16(p[2:])&(flagReply|maskOpcode) != flagReply {
		return Reply{}, ErrOther
	}
	if counts(p)[0] == 0 && p[3]&maxRcode != 0 {
		return Reply{}, ErrSpelling // some servers leave the question out of an error
	}
	if len(p) < headerSize+len(s.question) {
		return Reply{}, ErrOther
	}
	question := p[headerSize : headerSize+len(s.question)]
	if counts(p)[0] != 1 || lower(string(question)) != lower(string(s.question)) {
		return Reply{}, ErrOther
	}
	if string(question) != string(s.question) {
		return Reply{}, ErrSpelling
	}
	flags := binary.BigEndian.Uint16(p[2:])
	r := Reply{Code: int(flags & maxRcode), Truncated: flags&flagTruncated != 0}
	if r.Truncated {
		return r, nil // whatever it holds, the whole is asked for over TCP
	}
	return r, r.read(p, headerSize+len(s.question))
}

// read reads the records behind the question.
func (r *Reply) read(p []byte, at int) error {
	n := counts(p)
	var answers []record
	soa := time.Duration(-1)
	least := uint32(1<<31 - 1)
	for i := range n[1] + n[2] {
		one, next, err := readRecord(p, at)
		if err == nil {
			_, err = one.names(p)
		}
		if err != nil || one.kind == TypeOPT {
			return ErrReply
		}
		at = next
		r.ttls = append(r.ttls, one.ttlAt)
		least = min(least, one.ttl)
		switch {
		case i < n[1]:
			answers = append(answers, one)
		case one.kind == TypeSOA:
			minimum := binary.BigEndian.Uint32(p[one.to-4:])
			soa = time.Duration(min(one.ttl, minimum)) * time.Second
		}
	}
	end := at
	for range n[3] {
		one, next, err := readRecord(p, at)
		if err != nil {
			return ErrReply
		}
		if one.kind == TypeOPT && one.ttl>>24 != 0 {
			r.Code = Format // an extended code: the server dislikes our EDNS
		}
		at = next
	}
	r.body = slices.Clone(p[:end])
	q, _, _ := readName(p, headerSize)
	kind := binary.BigEndian.Uint16(p[headerSize+len(q):])
	found, err := follow(p, q, kind, answers)
	if err != nil {
		return err
	}
	r.Lifetime = r.lifetime(found, least, soa)
	return nil
}

// The longest times that answers are kept.
const (
	maxLifetime = 24 * time.Hour
	maxNegative = time.Hour
)

func (r *Reply) lifetime(found bool, least uint32, soa time.Duration) time.Duration {
	switch {
	case r.Code == Success && found:
		return min(time.Duration(least)*time.Second, maxLifetime)
	case (r.Code == Success || r.Code == NoName) && soa >= 0: // RFC 2308: without SOA it is not kept
		return min(soa, maxNegative)
	}
	return 0
}

// maxChain is how many CNAMEs may lead to an answer.
const maxChain = 16

// follow checks that all answers belong to the question, and reports whether there is one of the asked type.
func follow(p []byte, q Name, kind uint16, answers []record) (found bool, err error) {
	to := map[Name]Name{}
	for _, a := range answers {
		if a.kind == TypeCNAME {
			names, err := a.names(p)
			if err != nil {
				return false, err
			}
			to[a.owner] = names[0]
		}
	}
	chain := []Name{q}
	for {
		next, more := to[chain[len(chain)-1]]
		if !more || kind == TypeCNAME || kind == TypeANY {
			break
		}
		if slices.Contains(chain, next) || len(chain) > maxChain {
			return false, ErrReply
		}
		chain = append(chain, next)
	}
	for _, a := range answers {
		belongs := slices.Contains(chain, a.owner)
		if a.kind == TypeDNAME {
			belongs = slices.ContainsFunc(chain, func(n Name) bool { return n.Within(a.owner) })
		}
		if !belongs {
			return false, ErrReply
		}
		found = found || a.kind == kind || kind == TypeANY
	}
	return found, nil
}

// Size returns how many bytes the reply keeps in memory.
func (r Reply) Size() int { return cap(r.body) + 8*cap(r.ttls) + 128 }

// To returns the reply for a client that asks the same question, age after the server sent it. A reply that is older
// than its lifetime gets the lifetime old.
func (r Reply) To(q Query, age, old time.Duration) []byte {
	out := make([]byte, len(r.body), len(r.body)+optSize)
	copy(out, r.body)
	copy(out[headerSize:], q.asked)
	binary.BigEndian.PutUint16(out, q.ID)
	flags := flagReply | flagAvailable | q.flags&(flagDesired|flagUnchecked) | uint16(r.Code)
	if q.DNSSEC || q.flags&flagAuthentic != 0 {
		flags |= binary.BigEndian.Uint16(r.body[2:]) & flagAuthentic
	}
	binary.BigEndian.PutUint16(out[2:], flags)
	binary.BigEndian.PutUint16(out[10:], 0)
	for _, at := range r.ttls {
		left := int64(binary.BigEndian.Uint32(out[at:])) - int64(age/time.Second)
		if age > r.Lifetime {
			left = int64(old / time.Second)
		}
		binary.BigEndian.PutUint32(out[at:], uint32(max(left, 0)))
	}
	return q.finish(out)
}
