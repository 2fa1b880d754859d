package keyvalue

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Rule is one routing rule of a profile.
type Rule struct {
	Priority       int64
	Not            bool
	From, To       netip.Prefix // not valid: any
	IIF, OIF       string
	TOS, Protocol  int64
	SPort, DPort   [2]int64 // a range; 0-0: any
	Mark, Mask     int64
	UIDs           [2]int64
	HasUIDs        bool
	Table          int64
	SuppressPrefix int64  // -1: not
	Action         string // "table", "blackhole", "unreachable" or "prohibit"
}

// words of rules that have the same meaning.
func ruleWord(word string) string {
	switch word {
	case "order", "pref", "preference":
		return "priority"
	case "lookup":
		return "table"
	case "dsfield":
		return "tos"
	case "dev":
		return "iif"
	case "sup_pl":
		return "suppress_prefixlength"
	}
	return word
}

// ParseRule reads a rule in the words of "ip rule add". NetworkManager demands a priority, and so does it here.
func ParseRule(text string, six bool) (Rule, error) {
	r := Rule{Priority: -1, Table: -1, SuppressPrefix: -1}
	words := strings.Fields(text)
	if len(words) == 0 {
		return r, errors.New("an empty text is no rule")
	}
	seen := map[string]bool{}
	for len(words) > 0 {
		word := ruleWord(words[0])
		words = words[1:]
		switch word {
		case "not":
			r.Not = true
			continue
		case "blackhole", "unreachable", "prohibit":
			if seen["type"] {
				return r, fmt.Errorf("%q comes twice", "type")
			}
			seen["type"], r.Action = true, word
			continue
		}
		if seen[word] {
			return r, fmt.Errorf("%q comes twice", word)
		}
		if len(words) == 0 {
			return r, fmt.Errorf("%q lacks its value", word)
		}
		if err := r.set(word, words[0], six); err != nil {
			return r, err
		}
		seen[word], words = true, words[1:]
	}
	return r, r.finish(six)
}

func (r *Rule) set(word, value string, six bool) (err error) {
	const max32 = 1<<32 - 1
	switch word {
	case "from":
		r.From, err = ruleNetwork(value, six)
	case "to":
		r.To, err = ruleNetwork(value, six)
	case "priority":
		r.Priority, err = Number(value, 0, max32)
	case "table":
		switch value {
		case "main":
			r.Table = 254
		case "local":
			r.Table = 255
		case "default":
			r.Table = 253
		default:
			r.Table, err = Number(value, 0, max32)
		}
	case "tos":
		r.TOS, err = Number("0x"+strings.TrimPrefix(value, "0x"), 0, 255)
	case "ipproto":
		r.Protocol, err = Number(value, 0, 255)
	case "sport":
		r.SPort, err = span(value, 65535)
	case "dport":
		r.DPort, err = span(value, 65535)
	case "uidrange":
		r.UIDs, err = span(value, max32)
		r.HasUIDs = true
	case "fwmark":
		mark, mask, has := strings.Cut(value, "/")
		r.Mask = max32
		if r.Mark, err = Number(mark, 0, max32); err == nil && has {
			r.Mask, err = Number(mask, 0, max32)
		}
	case "iif":
		r.IIF = value
	case "oif":
		r.OIF = value
	case "suppress_prefixlength":
		r.SuppressPrefix, err = Number(value, 0, 1<<31-1)
	case "type":
		r.Action = value
	default:
		return fmt.Errorf("rules have no word %q", word)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	return nil
}

// finish completes and judges a rule.
func (r *Rule) finish(six bool) error {
	bits := map[bool]int64{false: 32, true: 128}[six]
	switch {
	case r.Action == "":
		r.Action = "table"
		if r.Table == -1 {
			r.Table = 254
		}
	case r.Action == "unicast":
		r.Action = "table"
		if r.Table == -1 {
			r.Table = 254
		}
	case r.Action != "blackhole" && r.Action != "unreachable" && r.Action != "prohibit":
		return errors.New("no such type of rule")
	case r.Table == -1:
		r.Table = 0
	}
	switch {
	case r.Priority == -1:
		return errors.New("the rule lacks a priority")
	case r.Action == "table" && r.Table == 0:
		return errors.New("the rule lacks a table")
	case r.IIF != "" && !LinkName(r.IIF), r.OIF != "" && !LinkName(r.OIF):
		return errors.New("the name of a link is not valid")
	case r.SuppressPrefix > bits:
		return errors.New("suppress_prefixlength is too large")
	case r.SuppressPrefix >= 0 && r.Action != "table":
		return errors.New("suppress_prefixlength goes only with a table")
	}
	return nil
}

func ruleNetwork(text string, six bool) (netip.Prefix, error) {
	if text == "all" {
		return netip.Prefix{}, nil
	}
	p, ok := Network(text)
	if !ok || p.Addr().Is4() == six {
		return p, errors.New("not a network of this family")
	}
	if p.Bits() == 0 && p.Addr().IsUnspecified() {
		return netip.Prefix{}, nil
	}
	if p.Bits() == 0 {
		return p, errors.New("the length is 0")
	}
	return p, nil
}

// span reads "80" or "80-90".
func span(text string, limit int64) (out [2]int64, err error) {
	low, high, has := strings.Cut(text, "-")
	if out[0], err = Number(low, 0, limit); err != nil {
		return out, err
	}
	out[1] = out[0]
	if has {
		if out[1], err = Number(high, 0, limit); err == nil && out[1] < out[0] {
			err = errors.New("the range ends before it begins")
		}
	}
	return out, err
}

// String returns the rule in the words of NetworkManager.
func (r Rule) String() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	add("priority %d", r.Priority)
	if r.Not {
		add(" not")
	}
	if r.From.IsValid() {
		add(" from %s", r.From)
	}
	if r.To.IsValid() {
		add(" to %s", r.To)
	}
	if r.TOS != 0 {
		add(" tos 0x%x", r.TOS)
	}
	if r.Protocol != 0 {
		add(" ipproto %d", r.Protocol)
	}
	if r.SPort[0] != 0 {
		add(" sport %d-%d", r.SPort[0], r.SPort[1])
	}
	if r.DPort[0] != 0 {
		add(" dport %d-%d", r.DPort[0], r.DPort[1])
	}
	if r.Mark != 0 || r.Mask != 0 {
		add(" fwmark 0x%x/0x%x", r.Mark, r.Mask)
	}
	if r.IIF != "" {
		add(" iif %s", r.IIF)
	}
	if r.OIF != "" {
		add(" oif %s", r.OIF)
	}
	if r.HasUIDs {
		add(" uidrange %d-%d", r.UIDs[0], r.UIDs[1])
	}
	if r.Table != 0 {
		add(" table %d", r.Table)
	}
	if r.SuppressPrefix >= 0 {
		add(" suppress_prefixlength %d", r.SuppressPrefix)
	}
	if r.Action != "table" {
		add(" %s", r.Action)
	}
	return b.String()
}
