// Package ruleset owns tables of the packet filter as values: which chains and rules a table has, how they are printed
// in the words of nft(8), and how they get into the kernel in one transaction.
//
// It decides no rule (filter and sharing do) and never touches a table that it was not given. Read first: Table.
package ruleset

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"resinos/net/ruleset/part"
)

// Family is the protocols that a table sees.
type Family string

// The families: both protocols, or one of them alone.
const (
	Inet Family = "inet"
	IPv4 Family = "ip"
	IPv6 Family = "ip6"
)

// Table is one table of the packet filter.
type Table struct {
	Family Family
	Name   string
	Meters []part.Meter
	Chains []Chain
}

// Chain is one chain. With a hook it is a base chain, whose rules all packets of the hook meet; else rules jump to it.
type Chain struct {
	Name     string
	Kind     string // of a base chain: filter or nat
	Hook     string // prerouting, input, forward, output or postrouting; empty: none
	Priority int
	Rules    []Rule
}

// Rule is conditions and statements, in their order.
type Rule []part.Part

// String returns the rule in the words of nft(8).
func (r Rule) String() string {
	words := make([]string, 0, len(r))
	for _, p := range r {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// String returns the table in the words of nft(8).
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	for _, m := range t.Meters {
		kind := "ipv4_addr"
		if m.Six {
			kind = "ipv6_addr"
		}
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n\t\tsize %d\n", m.Name, kind, m.Size)
		fmt.Fprintf(&b, "\t\tflags dynamic,timeout\n\t\ttimeout %s\n\t}\n", short(m.Idle))
	}
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.Kind, c.Hook, c.Priority)
		}
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	return b.String() + "}\n"
}

// Steps returns the rules, each with its table and chain in front, as a plan shows them.
func (t Table) Steps() []string {
	var out []string
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			out = append(out, fmt.Sprintf("%s %s %s: %s", t.Family, t.Name, c.Name, r))
		}
	}
	return out
}

// short writes a duration as nft(8) does: 1m, not 1m0s.
func short(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// Apply replaces these tables, and removes those named in gone, in one transaction: no packet meets a half of it, and
// if one rule is refused everything is as it was.
func Apply(tables []Table, gone ...Table) error {
	// A transaction is one message, and the kernel answers to each rule before any answer is read.
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(buffer), c.SetReadBuffer(buffer))
	}))
	if err != nil {
		return fmt.Errorf("open packet filter: %w", err)
	}
	var names []string
	for _, t := range slices.Concat(gone, tables) {
		table := t.kernel()
		conn.AddTable(table) // to delete a table that does not exist would be an error
		conn.DelTable(table)
		names = append(names, t.Name)
	}
	for _, t := range tables {
		if err := t.add(conn); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set tables %s of the packet filter: %w", strings.Join(names, ", "), err)
	}
	return nil
}

// buffer is the room for a transaction, and for the answers to it.
const buffer = 1 << 20

// There reports whether the kernel has a table of this name and family. The question does not load the kernel's
// modules: without them there is none.
func There(t Table) bool {
	if text, err := os.ReadFile(netlinkSockets); err == nil && !loaded(string(text)) {
		return false
	}
	conn, err := nftables.New()
	if err != nil {
		return false
	}
	list, err := conn.ListTablesOfFamily(t.kernel().Family)
	return err == nil && slices.ContainsFunc(list, func(k *nftables.Table) bool { return k.Name == t.Name })
}

// netlinkSockets lists the sockets of netlink, among them those of the kernel's own protocols.
const netlinkSockets = "/proc/net/netlink"

// loaded reports whether that list has a socket of netfilter, which its module opens in each network namespace when it
// is loaded: to open another one loads it, through a program that the kernel starts.
func loaded(sockets string) bool {
	for line := range strings.Lines(sockets) {
		if words := strings.Fields(line); len(words) > 1 && words[1] == fmt.Sprint(unix.NETLINK_NETFILTER) {
			return true
		}
	}
	return false
}

func (t Table) kernel() *nftables.Table {
	family := nftables.TableFamilyINet
	switch t.Family {
	case IPv4:
		family = nftables.TableFamilyIPv4
	case IPv6:
		family = nftables.TableFamilyIPv6
	}
	return &nftables.Table{Name: t.Name, Family: family}
}

// hook is the kernel's number of a hook.
func hook(name string) *nftables.ChainHook {
	number := slices.Index([]string{"prerouting", "input", "forward", "output", "postrouting"}, name)
	if number < 0 {
		panic("no hook " + name)
	}
	return nftables.ChainHookRef(nftables.ChainHook(unix.NF_INET_PRE_ROUTING + number))
}

func (t Table) add(conn *nftables.Conn) error {
	table := conn.AddTable(t.kernel())
	for _, m := range t.Meters {
		key := nftables.TypeIPAddr
		if m.Six {
			key = nftables.TypeIP6Addr
		}
		set := &nftables.Set{Table: table, Name: m.Name, KeyType: key, Dynamic: true, HasTimeout: true, Timeout: m.Idle,
			Size: m.Size}
		if err := conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("add set %s: %w", m.Name, err)
		}
	}
	chains := map[string]*nftables.Chain{}
	for _, c := range t.Chains { // all of them first: rules jump to chains
		chain := &nftables.Chain{Name: c.Name, Table: table}
		if c.Hook != "" {
			chain.Type, chain.Hooknum = nftables.ChainType(c.Kind), hook(c.Hook)
			chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority))
		}
		chains[c.Name] = conn.AddChain(chain)
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			rule := &nftables.Rule{Table: table, Chain: chains[c.Name]}
			for _, p := range r {
				rule.Exprs = append(rule.Exprs, p.Exprs()...)
			}
			conn.AddRule(rule)
		}
	}
	return nil
}
