package dnswire

import (
	"fmt"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Name is a domain name in small letters with the last dot. A label may hold any byte but a dot: dnsmessage refuses
// those, so that no name is mistaken for another one. The zero value is no name.
type Name string

// NameOf returns the name that people write as text, with or without the last dot.
func NameOf(text string) (Name, error) {
	n := Name(lower(strings.TrimSuffix(text, ".")) + ".")
	if _, err := n.pack(); err != nil {
		return "", fmt.Errorf("name %.80q is not valid: %w", text, err)
	}
	return n, nil
}

// Must is NameOf for names in source code.
func Must(text string) Name {
	n, err := NameOf(text)
	if err != nil {
		panic(err)
	}
	return n
}

// pack returns a message that asks for the name, which shows whether the name is valid.
func (n Name) pack() ([]byte, error) {
	question, err := Question{Name: n}.question()
	if err != nil {
		return nil, err
	}
	return (&dnsmessage.Message{Questions: []dnsmessage.Question{question}}).Pack()
}

// Wire returns the name as the data of a record holds it. The name must be valid.
func (n Name) Wire() []byte {
	p, err := n.pack()
	if err != nil {
		panic(err)
	}
	return p[headerSize : len(p)-4] // without the type and the class of the question
}

// String returns the name as people write it, without the last dot.
func (n Name) String() string {
	if n == "." {
		return "."
	}
	return strings.TrimSuffix(string(n), ".")
}

// Within reports whether n is the domain or below it.
func (n Name) Within(domain Name) bool {
	return n == domain || domain == "." || strings.HasSuffix(string(n), "."+string(domain))
}

// Labels returns how many labels the name has; the root has none.
func (n Name) Labels() int {
	if n == "." {
		return 0
	}
	return strings.Count(string(n), ".")
}

// First returns the first label.
func (n Name) First() string {
	label, _, _ := strings.Cut(string(n), ".")
	return label
}

// lower returns s with the letters of ASCII made small; all other bytes stay.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func nameOf(n dnsmessage.Name) Name { return Name(lower(n.String())) }
