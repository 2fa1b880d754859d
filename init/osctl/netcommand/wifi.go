package netcommand

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/atomicfile"
	"resinos/net/keyfile"
	"resinos/net/keyimport"
	"resinos/net/keyvalue"
	"resinos/net/netcontrol"
)

// joinLimit is how long net connect waits: the radio is switched on, looks around, joins, and gets an address.
const joinLimit = 90 * time.Second

// scan shows which networks are in range.
func (s *session) scan(ctx context.Context, client netcontrol.Client, asJSON bool) error {
	ended := s.Waiting("looking around")
	found, err := client.Scan(ctx)
	ended()
	if err != nil {
		return err
	}
	if asJSON {
		return s.PrintJSON(found)
	}
	rows := [][]screen.Cell{screen.Header("SSID", "SIGNAL", "SECURITY", "MHZ", "ACCESS POINT")}
	for _, a := range found {
		name := screen.Cell{Text: screen.InLine(a.SSID)}
		if a.SSID == "" {
			name = screen.Cell{Text: "(hidden)", Colour: screen.Dim}
		}
		rows = append(rows, []screen.Cell{name, {Text: fmt.Sprintf("%d dBm", a.Signal)}, {Text: a.Security},
			{Text: strconv.Itoa(a.Frequency)}, {Text: screen.Escape(a.BSSID), Colour: screen.Dim}})
	}
	_, err = io.WriteString(s.Stdout, s.Table(rows))
	return err
}

// connect writes the key file of a network, and waits until the device has joined it.
func (s *session) connect(ctx context.Context, client netcontrol.Client, ssid string, w wish) error {
	name := fileName(ssid)
	path := filepath.Join(s.Root, keyimport.To, name)
	if len(ssid) == 0 || len(ssid) > 32 {
		return cli.Misuse(fmt.Sprintf("the name of a network has 1 to 32 bytes, not %d", len(ssid)),
			"try: osctl net scan")
	}
	password := ""
	if !w.open && !w.dry {
		var err error
		if password, err = s.password(ssid); err != nil {
			return err
		}
	}
	text, err := w.network(ssid, password)
	if err != nil {
		return err
	}
	if w.dry {
		_, err := fmt.Fprintf(s.Stdout, "write %s and join the network\n", screen.InLine(path))
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return cli.Silent(fmt.Errorf("write profile: %w", err))
	}
	if err := atomicfile.Write(path, []byte(text), 0o600); err != nil {
		return cli.Silent(fmt.Errorf("write profile: %w", err))
	}
	if err := client.Reload(ctx); err != nil {
		return err
	}
	ended := s.Waiting("joining " + screen.InLine(ssid))
	l, err := joined(ctx, client, name)
	ended()
	if err != nil {
		return cli.Advise(fmt.Errorf("join %q: %w", ssid, err),
			fmt.Sprintf("the key file stays, and the device goes on trying; to remove it: rm '%s'",
				screen.InLine(path)))
	}
	_, err = fmt.Fprintf(s.Stdout, "%s has joined %s: %s\n", l.Name, screen.InLine(ssid),
		strings.Join(l.Addresses, " "))
	return err
}

// joined waits until a link is in the network of a key file and has an address.
func joined(ctx context.Context, client netcontrol.Client, file string) (netcontrol.Link, error) {
	timer := time.NewTimer(joinLimit)
	defer timer.Stop()
	reason := ""
	for {
		status, err := client.Status(ctx)
		if err != nil {
			return netcontrol.Link{}, err
		}
		l, is, why := inNetwork(status, file)
		if reason = why; is {
			return l, nil
		}
		if strings.HasPrefix(why, "refused") {
			return l, errors.New(why)
		}
		select {
		case <-ctx.Done():
			return l, context.Cause(ctx)
		case <-timer.C:
			return l, fmt.Errorf("not within %s: %s", joinLimit, reason)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// inNetwork reports whether a link is in the network of a key file with an address, and if not, what is known of it.
func inNetwork(n netcontrol.Status, file string) (l netcontrol.Link, is bool, why string) {
	for _, p := range n.Profiles {
		if p.File == file {
			why = p.State
			if p.Error != "" {
				return l, false, "refused: " + p.Error
			}
		}
	}
	for _, l := range n.Links {
		for _, note := range l.Notes {
			if fault, of := strings.CutPrefix(note, file+": "); of {
				why = fault
			}
		}
		if l.Radio == nil {
			continue
		}
		if l.Radio.File == file && l.Carrier && (l.Radio.State == "joined" || l.Radio.State == "access point") {
			why = "joined, and no DHCP server has answered"
			for _, a := range l.Addresses {
				if !strings.HasPrefix(a, "fe80:") {
					return l, true, ""
				}
			}
			continue
		}
		if l.Radio.State != "joined" || l.Radio.File != file {
			why = l.Radio.Words
		}
	}
	return l, false, why
}

// fileName returns the name of the key file for a network, whatever bytes its name has.
func fileName(ssid string) string {
	var b strings.Builder
	for _, c := range []byte(ssid) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return "wifi-" + b.String() + ".nmconnection"
}

// network returns the key file for a network.
func (w wish) network(ssid, password string) (string, error) {
	connection := keyfile.Group{Name: "connection"}
	radio, security := keyfile.Group{Name: "wifi"}, keyfile.Group{Name: "wifi-security"}
	put := func(g *keyfile.Group, key, value string) {
		if value != "" {
			g.Keys = append(g.Keys, keyfile.Key{Name: key, Value: value})
		}
	}
	put(&connection, "id", keyfile.Quote(strings.Trim(strconv.Quote(ssid), `"`)))
	put(&connection, "type", "wifi")
	put(&connection, "interface-name", keyfile.Quote(w.link))
	put(&radio, "ssid", keyvalue.Raw(ssid).Quoted())
	put(&radio, "mode", "infrastructure")
	if w.hidden {
		put(&radio, "hidden", "true")
	}
	groups := []keyfile.Group{connection, radio}
	if !w.open && !w.dry {
		if n := len(password); n < 8 || n > 64 {
			return "", cli.Misuse(fmt.Sprintf("a password has 8 to 63 characters, not %d", n),
				"a network without one: osctl net connect --open SSID")
		}
		put(&security, "key-mgmt", "wpa-psk")
		put(&security, "psk", keyfile.Quote(password))
		groups = append(groups, security)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		g := keyfile.Group{Name: family}
		put(&g, "method", "auto")
		groups = append(groups, g)
	}
	return keyfile.File{Groups: groups}.String(), nil
}

// password reads a line: from the terminal without showing it, or from what is piped in.
func (s *session) password(ssid string) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		silent := *before
		silent.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
			return "", cli.Silent(fmt.Errorf("ask for the password: %w", err))
		}
		defer func() {
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, before) // the terminal may be gone
			fmt.Fprintln(s.Stderr)
		}()
		fmt.Fprintf(s.Stderr, "Password of %s: ", screen.InLine(ssid))
	}
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 256)).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", cli.Misuse("no password was given", "type it, or: printf '%s\\n' PASSWORD | osctl net connect SSID")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
