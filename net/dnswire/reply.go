package dnswire

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Sent is a query of ours, which a server is to answer.
type Sent struct {
	Bytes    []byte
	id       uint16
	question dnsmessage.Question // as we spelt it
}

// Ask returns the message that asks a server. Random bits of the caller decide id and spelling: each letter of the name
// is large or small (draft-vixie-dnsext-dns0x20), which a reply must repeat. The name must be valid.
func (q Question) Ask(id uint16, spelling []byte, edns bool) Sent {
	question, _ := q.question() // Pack refuses it
	name := question.Name.Data[:question.Name.Length]
	letter := 0
	for i, c := range name {
		if c >= 'a' && c <= 'z' && len(spelling) > 0 {
			if spelling[letter/8%len(spelling)]>>(letter%8)&1 != 0 {
				name[i] -= 'a' - 'A'
			}
			letter++
		}
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true, CheckingDisabled: q.Unchecked},
		Questions: []dnsmessage.Question{question}}
	if edns {
		m.Additionals = []dnsmessage.Resource{opt(q.DNSSEC)}
	}
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return Sent{Bytes: p, id: id, question: question}
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

	body []byte // header, question as we spelt it, answers, authority
}

// ParseReply checks a server's message against the query. Each name in it must be valid, and each answer must belong to
// the asked name or to one that it leads to by CNAME. What the server adds beyond the question is dropped.
func (s Sent) ParseReply(p []byte) (Reply, error) {
	var parser dnsmessage.Parser
	h, err := parser.Start(p)
	if err != nil || h.ID != s.id || !h.Response || h.OpCode != 0 {
		return Reply{}, ErrOther
	}
	asked, err := parser.AllQuestions()
	if err == nil && len(asked) == 0 && h.RCode != dnsmessage.RCodeSuccess {
		return Reply{}, ErrSpelling // some servers leave the question out of an error
	}
	if err != nil || len(asked) != 1 || questionOf(asked[0]) != questionOf(s.question) {
		return Reply{}, ErrOther
	}
	if asked[0] != s.question {
		return Reply{}, ErrSpelling
	}
	r := Reply{Code: int(h.RCode), Truncated: h.Truncated}
	if r.Truncated {
		return r, nil // whatever it holds, the whole is asked for over TCP
	}
	return r, r.read(&parser, h, s.question)
}

// read reads the records behind the question.
func (r *Reply) read(p *dnsmessage.Parser, h dnsmessage.Header, asked dnsmessage.Question) error {
	answers, authorities, err := both(p)
	if err != nil {
		return err
	}
	further, err := sectionsOf(p)[2].records(true)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(further, func(f dnsmessage.Resource) bool {
		return f.Header.Type == dnsmessage.TypeOPT && f.Header.TTL>>24 != 0
	}) {
		r.Code = Format // an extended code: the server dislikes our EDNS
	}
	found, err := follow(questionOf(asked), answers)
	if err != nil {
		return err
	}
	r.Lifetime = r.lifetime(found, answers, authorities)
	r.body, err = (&dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{asked}, Answers: answers,
		Authorities: authorities}).Pack()
	if err != nil || len(r.body) > maxMessage {
		return ErrReply
	}
	return nil
}

// both reads the two sections that clients get. Records of the authority that cannot be read are left out: no client
// relies on them.
func both(p *dnsmessage.Parser) (answers, authorities []dnsmessage.Resource, err error) {
	sections := sectionsOf(p)
	if answers, err = sections[0].records(false); err == nil {
		authorities, err = sections[1].records(true)
	}
	if slices.ContainsFunc(slices.Concat(answers, authorities), func(r dnsmessage.Resource) bool {
		return r.Header.Type == dnsmessage.TypeOPT
	}) {
		return nil, nil, ErrReply
	}
	return answers, authorities, err
}

// The longest times that answers are kept.
const (
	maxLifetime = 24 * time.Hour
	maxNegative = time.Hour
)

func (r *Reply) lifetime(found bool, answers, authorities []dnsmessage.Resource) time.Duration {
	least, soa := maxLifetime, time.Duration(-1)
	for _, one := range slices.Concat(answers, authorities) {
		least = min(least, time.Duration(one.Header.TTL)*time.Second)
	}
	for _, one := range authorities {
		if body, ok := one.Body.(*dnsmessage.SOAResource); ok {
			soa = time.Duration(min(one.Header.TTL, body.MinTTL)) * time.Second
		}
	}
	switch {
	case r.Code == Success && found:
		return least
	case (r.Code == Success || r.Code == NoName) && soa >= 0: // RFC 2308: without SOA it is not kept
		return min(soa, maxNegative)
	}
	return 0
}

// maxChain is how many CNAMEs may lead to an answer.
const maxChain = 16

// follow checks that all answers belong to the question, and reports whether there is one of the asked type.
func follow(q Question, answers []dnsmessage.Resource) (found bool, err error) {
	to := map[Name]Name{}
	for _, a := range answers {
		if body, ok := a.Body.(*dnsmessage.CNAMEResource); ok {
			to[nameOf(a.Header.Name)] = nameOf(body.CNAME)
		}
	}
	chain := []Name{q.Name}
	for {
		next, more := to[chain[len(chain)-1]]
		if !more || q.Type == uint16(dnsmessage.TypeCNAME) || q.Type == TypeANY {
			break
		}
		if slices.Contains(chain, next) || len(chain) > maxChain {
			return false, ErrReply
		}
		chain = append(chain, next)
	}
	for _, a := range answers {
		owner := nameOf(a.Header.Name)
		belongs := slices.Contains(chain, owner)
		if a.Header.Type == typeDNAME {
			belongs = slices.ContainsFunc(chain, func(n Name) bool { return n.Within(owner) })
		}
		if !belongs {
			return false, ErrReply
		}
		found = found || uint16(a.Header.Type) == q.Type || q.Type == TypeANY
	}
	return found, nil
}

// Size returns how many bytes the reply keeps in memory.
func (r Reply) Size() int { return cap(r.body) + 128 }

// To returns the reply for a client that asks the same question, age after the server sent it. A reply that is older
// than its lifetime gets the lifetime old.
func (r Reply) To(q Query, age, old time.Duration) []byte {
	var parser dnsmessage.Parser
	h, err := parser.Start(r.body)
	ours, question := parser.AllQuestions()
	answers, authorities, records := both(&parser)
	if err != nil || question != nil || records != nil || len(ours) != 1 {
		return q.Code(Failure) // no answer is kept: the reply is truncated
	}
	for _, section := range [][]dnsmessage.Resource{answers, authorities} {
		for i := range section {
			one := &section[i]
			left := int64(one.Header.TTL) - int64(age/time.Second)
			if age > r.Lifetime {
				left = int64(old / time.Second)
			}
			one.Header.TTL = uint32(max(left, 0))
			for _, n := range append(namesOf(one.Body), &one.Header.Name) {
				respell(n, ours[0].Name, q.asked[0].Name)
			}
		}
	}
	return q.pack(dnsmessage.Header{RCode: dnsmessage.RCode(r.Code),
		AuthenticData: h.AuthenticData && (q.DNSSEC || q.header.AuthenticData)}, answers, authorities)
}

// respell gives the end of n that is spelt as in our question the client's spelling. The two questions differ in
// nothing else.
func respell(n *dnsmessage.Name, ours, client dnsmessage.Name) {
	for i, k := int(n.Length)-1, int(ours.Length)-1; i >= 0 && k >= 0 && n.Data[i] == ours.Data[k]; i, k = i-1, k-1 {
		n.Data[i] = client.Data[k]
	}
}
