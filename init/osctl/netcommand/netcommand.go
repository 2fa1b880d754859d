// Package netcommand owns the command net of osctl: links, profiles, addresses, routes and name servers at one glance,
// what the key files ask for, and the changes of profiles. It asks netd, and writes key files. Read Show first.
package netcommand

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/atomicfile"
	"resinos/net/keyfile"
	"resinos/net/keyimport"
	"resinos/net/netcontrol"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// wish is what the flags of net add say.
type wish struct {
	link, address, gateway, dns string
	dry                         bool
	open, hidden                bool // connect: the network has no password; it hides its name
	endpoint                    string
}

// Show runs the command net.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	var w wish
	flags.BoolVar(&w.dry, "n", false, "prints what it would do, and does nothing")
	flags.StringVar(&w.link, "link", "", "add, connect: for this `LINK` only, as in eth0")
	flags.StringVar(&w.address, "address", "", "add: this `ADDRESS/BITS`; without it, the link asks a DHCP server")
	flags.StringVar(&w.gateway, "gateway", "", "add: the default route through this `ADDRESS`")
	flags.StringVar(&w.dns, "dns", "", "add: these name `SERVERS`, separated by commas")
	flags.StringVar(&w.endpoint, "endpoint", "", "vpn-server add, wireguard-server add: the `HOST[:PORT]` by which "+
		"clients reach the device")
	flags.BoolVar(&w.open, "open", false, "connect: the network has no password")
	flags.BoolVar(&w.hidden, "hidden", false, "connect: the network hides its name")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	verb := ""
	if len(rest) > 0 {
		verb, rest = rest[0], rest[1:]
	}
	client := netcontrol.Client{Socket: filepath.Join(s.Root, netcontrol.SocketPath)}
	wanted := map[string]int{"": 0, "plan": 0, "reload": 0, "up": 1, "down": 1, "add": 1, "scan": 0, "connect": 1,
		keyVerb: len(rest), serverVerb: len(rest), peersVerb: len(rest)}
	n, known := wanted[verb]
	switch {
	case !known:
		return cli.Misuse(fmt.Sprintf("no command %q of net", verb),
			"there are: osctl net plan, up, down, reload, add, scan, connect, wireguard-key, vpn-server, "+
				"wireguard-server")
	case verb == serverVerb || verb == peersVerb:
		return s.vpnServer(ctx, verb, rest, w)
	case verb == keyVerb && len(rest) <= 1:
		return s.wireguardKey(ctx, client, rest, w.dry)
	case len(rest) != n || verb == keyVerb:
		return cli.Misuse(fmt.Sprintf("net %s needs %d arguments, not %d", verb, n, len(rest)), "try: osctl help net")
	case verb == "add":
		return s.add(rest[0], w)
	case w.dry && (verb == "up" || verb == "down" || verb == "reload"):
		_, err := fmt.Fprintf(s.Stdout, "%s %s\n", verb, strings.Join(rest, " "))
		return err
	}
	switch verb {
	case "up", "down":
		err = client.Change(ctx, verb, rest[0])
	case "reload":
		err = client.Reload(ctx)
	case "scan":
		err = s.scan(ctx, client, *asJSON)
	case "connect":
		err = s.connect(ctx, client, rest[0], w)
	case "plan":
		err = s.plan(ctx, client, *asJSON)
	default:
		err = s.show(ctx, client, *asJSON)
	}
	return cli.Unreachable(err, "netd", "try: osctl status netd")
}

func (s *session) show(ctx context.Context, client netcontrol.Client, asJSON bool) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return s.PrintJSON(status)
	}
	_, err = io.WriteString(s.Stdout, s.text(status))
	return err
}

// text is the picture of the network: links, their routes, the name servers, the profiles, and what is wrong.
func (s *session) text(n netcontrol.Status) string {
	rows := [][]screen.Cell{screen.Header("LINK", "STATE", "REACH", "PROFILE", "METHOD", "ADDRESSES")}
	var routes, delegated, guests, radios, faults []string
	var peers [][]screen.Cell
	for _, l := range n.Links {
		if l.Kind == "loopback" {
			continue
		}
		rows = append(rows, linkRow(l))
		for _, r := range l.Routes {
			routes = append(routes, fmt.Sprintf("  %s: %s", screen.Escape(l.Name), screen.InLine(r)))
		}
		for _, p := range l.Prefixes {
			delegated = append(delegated, fmt.Sprintf("  %s: %s", screen.Escape(l.Name), screen.InLine(p)))
		}
		for _, g := range l.Guests {
			guests = append(guests, strings.TrimRight(fmt.Sprintf("  %s: %s %s %s", screen.Escape(l.Name),
				screen.InLine(g.Address), screen.InLine(g.Hardware), screen.InLine(g.Name)), " "))
		}
		if l.Radio != nil {
			radios = append(radios, fmt.Sprintf("  %s: %s", screen.Escape(l.Name), screen.InLine(l.Radio.Words)))
		}
		for _, note := range l.Notes {
			faults = append(faults, s.Lead(screen.Yellow, "note", l.Name+": "+screen.InLine(note)))
		}
		if l.ReachReason != "" {
			faults = append(faults, s.Lead(screen.Yellow, "reach", l.Name+": "+screen.InLine(l.ReachReason)))
		}
		for _, p := range l.Peers {
			peers = append(peers, s.peerRow(l.Name, p))
		}
		if l.Error != "" {
			faults = append(faults, s.Lead(screen.Red, "error", l.Name+": "+screen.InLine(l.Error)))
		}
	}
	out := s.Table(rows)
	if len(radios) > 0 {
		out += "\nradios\n" + strings.Join(radios, "\n") + "\n"
	}
	if len(n.Modems) > 0 {
		out += "\nmodems\n"
		for _, m := range n.Modems {
			out += fmt.Sprintf("  %s: %s\n", screen.Escape(m.Port), screen.InLine(m.Words))
		}
	}
	if len(routes) > 0 {
		out += "\nroutes\n" + strings.Join(routes, "\n") + "\n"
	}
	if len(delegated) > 0 {
		out += "\ndelegated prefixes\n" + strings.Join(delegated, "\n") + "\n"
	}
	if len(guests) > 0 {
		out += "\nguests of shared links\n" + strings.Join(guests, "\n") + "\n"
	}
	if len(peers) > 0 {
		header := screen.Header("LINK", "PEER", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT")
		out += "\n" + s.Table(append([][]screen.Cell{header}, peers...))
	}
	if len(n.Servers) > 0 {
		out += "\nname servers  " + screen.InLine(strings.Join(n.Servers, " ")) + "\n"
	}
	if n.Proxy != "" {
		out += "\nproxy  " + screen.InLine(n.Proxy) + "\n"
	}
	if len(n.Profiles) > 0 {
		table := [][]screen.Cell{screen.Header("FILE", "ID", "TYPE", "STATE")}
		for _, p := range n.Profiles {
			table = append(table, profileRow(p))
			if p.Fault != "" {
				faults = append(faults, s.Lead(screen.Red, "error", screen.InLine(p.File+": "+p.Fault)))
			}
			for _, w := range p.Warnings {
				faults = append(faults, s.Lead(screen.Yellow, "warning", screen.InLine(w)))
			}
		}
		out += "\n" + s.Table(table)
	}
	if len(n.Filter) > 0 {
		table := [][]screen.Cell{screen.Header("RULES", "TABLES")}
		for _, r := range n.Filter {
			tables := screen.InLine(strings.Join(r.Tables, ", "))
			table = append(table, []screen.Cell{{Text: screen.InLine(r.File)}, {Text: tables}})
			if r.Error != "" {
				faults = append(faults, s.Lead(screen.Red, "refused", screen.InLine(r.Error)))
			}
		}
		out += "\n" + s.Table(table)
	}
	for _, f := range n.Faults {
		faults = append(faults, s.Lead(screen.Red, "error", screen.InLine(f)))
	}
	if len(faults) > 0 {
		out += "\n" + strings.Join(faults, "\n") + "\n"
	}
	return out
}

func linkRow(l netcontrol.Link) []screen.Cell {
	state, colour := "up", screen.Green
	switch {
	case l.Error != "":
		state, colour = "not as wanted", screen.Red
	case !l.Managed:
		state, colour = "not ours", screen.Dim
	case !l.Carrier:
		state, colour = "no carrier", screen.Yellow
	}
	return []screen.Cell{
		{Text: screen.Escape(l.Name)}, {Text: state, Colour: colour}, reachCell(l), {Text: screen.InLine(l.Profile)},
		{Text: screen.Escape(l.Method), Colour: screen.Dim}, {Text: strings.Join(l.Addresses, " ")},
	}
}

func reachCell(l netcontrol.Link) screen.Cell {
	c := screen.Cell{Text: cmp.Or(screen.Escape(l.Reach), "-"), Colour: screen.Yellow}
	switch l.Reach {
	case "full", "gateway":
		c.Colour = screen.Green
	case "", "-":
		c.Colour = screen.Dim
	}
	if l.Lowered {
		c.Text += ", last"
	}
	return c
}

func profileRow(p netcontrol.Profile) []screen.Cell {
	state, colour := p.State, screen.Yellow
	if strings.HasPrefix(state, "in force") {
		colour = screen.Green
	}
	if p.Error != "" {
		state, colour = strings.TrimPrefix(p.State+"; the file is wrong: "+p.Error, "refused; "), screen.Red
	}
	return []screen.Cell{
		{Text: screen.InLine(p.File)}, {Text: screen.InLine(p.ID)}, {Text: screen.Escape(p.Type), Colour: screen.Dim},
		{Text: screen.InLine(state), Colour: colour},
	}
}

func (s *session) plan(ctx context.Context, client netcontrol.Client, asJSON bool) error {
	plan, err := client.Plan(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return s.PrintJSON(plan)
	}
	var b strings.Builder
	for _, p := range plan {
		fmt.Fprintf(&b, "%s\n", screen.InLine(p.File))
		if p.Link == "" && len(p.Steps) == 0 {
			b.WriteString("  no link is there for it\n")
		}
		for _, step := range p.Steps {
			fmt.Fprintf(&b, "  %s\n", screen.InLine(step))
		}
		for _, step := range p.Left {
			fmt.Fprintf(&b, "  still to do: %s\n", screen.InLine(step))
		}
	}
	_, err = io.WriteString(s.Stdout, b.String())
	return err
}

// add writes a key file. netd sees it at once.
func (s *session) add(name string, w wish) error {
	odd := name != filepath.Base(name) || strings.ContainsAny(name, "\n\r\x00")
	if odd || keyfile.Ignored(name+".nmconnection") {
		return cli.Misuse(fmt.Sprintf("%q cannot be the name of a file", name), "try: osctl net add office")
	}
	text, err := w.file(name)
	if err != nil {
		return err
	}
	if w.dry {
		_, err := io.WriteString(s.Stdout, text)
		return err
	}
	path := filepath.Join(s.Root, keyimport.To, name+".nmconnection")
	if _, err := os.Lstat(path); err == nil {
		return cli.Advise(fmt.Errorf("add profile: %s is there already", path), "edit it, or choose another name")
	}
	if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
		return cli.Silent(fmt.Errorf("add profile: %w", err))
	}
	_, err = fmt.Fprintf(s.Stdout, "%s written; see what came of it: osctl net\n", path)
	return err
}

// file returns the key file for what the flags say.
func (w wish) file(name string) (string, error) {
	connection := keyfile.Group{Name: "connection"}
	put := func(g *keyfile.Group, key, value string) {
		if value != "" {
			g.Keys = append(g.Keys, keyfile.Key{Name: key, Value: value})
		}
	}
	put(&connection, "id", keyfile.Quote(name))
	put(&connection, "type", "ethernet")
	put(&connection, "interface-name", keyfile.Quote(w.link))
	four, six := keyfile.Group{Name: "ipv4"}, keyfile.Group{Name: "ipv6"}
	method := map[bool]string{false: "auto", true: "manual"}
	target, other := &four, &six
	if w.address != "" {
		p, err := netip.ParsePrefix(w.address)
		if err != nil {
			return "", cli.Misuse("--address is not ADDRESS/BITS", "try: --address 192.168.1.50/24")
		}
		if p.Addr().Is6() {
			target, other = &six, &four
		}
		put(target, "address1", p.String())
	}
	put(target, "method", method[w.address != ""])
	put(other, "method", "auto")
	if w.gateway != "" {
		gateway, err := netip.ParseAddr(w.gateway)
		if err != nil || w.address == "" {
			return "", cli.Misuse("--gateway is an address, and goes with --address", "try: osctl help net")
		}
		put(target, "gateway", gateway.String())
	}
	var servers []string
	for text := range strings.SplitSeq(w.dns, ",") {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		if err != nil || a.Is6() != (target == &six) {
			return "", cli.Misuse("--dns holds more than addresses of one family", "try: --dns 1.1.1.1,9.9.9.9")
		}
		servers = append(servers, a.String())
	}
	if servers != nil {
		put(target, "dns", keyfile.QuoteList(servers))
	}
	return keyfile.File{Groups: []keyfile.Group{connection, four, six}}.String(), nil
}
