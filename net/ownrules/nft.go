package ownrules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"resinos/mounts/packed"
)

// patience is how long nft may work.
const patience = 30 * time.Second

// carry carries out a step, and returns what is then known of the file; nothing if it is gone.
func (l Loader) carry(ctx context.Context, s step, there []string) []File {
	path := filepath.Join(l.Dir, s.now.name)
	f := s.file
	switch s.verb {
	case keep:
		if s.now.digest == f.Digest {
			f.Error, f.Tried = "", ""
		}
		return []File{f}
	case remove:
		if err := l.run(ctx, without(f.Tables)); err != nil {
			l.Log.Warn("rules not removed", "file", f.Name, "error", err)
			return []File{f} // it is tried again
		}
		l.Log.Info("rules removed", "file", f.Name, "names", f.Tables)
		return nil
	}
	err := s.now.err
	var tables []string
	if err == nil {
		tables, err = l.rehearse(ctx, path, s.now.text)
	}
	if err == nil {
		err = foreign(tables, f.Tables, there)
	}
	if err == nil {
		err = l.run(ctx, without(f.Tables)+include(path))
	}
	if err != nil {
		f.Error, f.Tried = err.Error(), s.now.digest
		l.Log.Warn("rules refused", "file", f.Name, "error", err)
		return []File{f}
	}
	l.Log.Info("rules loaded", "file", f.Name, "names", tables)
	return []File{{Name: f.Name, Digest: s.now.digest, Tables: tables}}
}

// foreign returns an error if a file makes tables that are there already and not its own.
func foreign(tables, own, there []string) error {
	for _, t := range tables {
		if slices.Contains(there, t) && !slices.Contains(own, t) {
			return fmt.Errorf("table %s is there already, and is not of this file; give the table another name", t)
		}
	}
	return nil
}

// without is the beginning of a transaction that removes tables, whether they are there or not.
func without(tables []string) string {
	var b strings.Builder
	for _, t := range tables {
		fmt.Fprintf(&b, "add table %s\ndelete table %s\n", t, t)
	}
	return b.String()
}

func include(path string) string { return fmt.Sprintf("include %q\n", path) }

// rehearse loads a file in an empty network and returns the tables that it makes there.
func (l Loader) rehearse(ctx context.Context, path, text string) (tables []string, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the network ends with the thread
		var links []string
		if links, err = linksFor(text); err != nil {
			return
		}
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("try rules: unshare: %w", err)
			return
		}
		for pair := range slices.Chunk(append(links, "of-nobody"), 2) { // rules may name a link by its number
			_ = connect(pair[0], pair[len(pair)-1]) // nft says what it misses
		}
		if err = l.run(ctx, include(path)); err == nil {
			tables, err = l.tables(ctx)
		}
	}()
	<-done
	return tables, err
}

// connect creates a pair of links. That of the library knows all kinds of links, which costs netd 130 kB.
func connect(name, peer string) error {
	request := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	request.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	other := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	other.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	other.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(peer))
	request.AddData(info)
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// linksFor returns the links of this network, if rules may need them.
func linksFor(text string) (names []string, err error) {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && (r < '0' || r > 'z' || r > '9' && r < 'A')
	})
	if !slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"iif", "oif", "device", "devices"}, w)
	}) {
		return nil, nil
	}
	list, err := netlink.LinkList()
	for _, l := range list {
		if name := l.Attrs().Name; name != "lo" {
			names = append(names, name)
		}
	}
	return names, err
}

// tables returns the tables of the packet filter, as in "inet shop".
func (l Loader) tables(ctx context.Context) ([]string, error) {
	out, err := l.nft(ctx, "", "--json", "list", "tables")
	if err != nil {
		return nil, err
	}
	var list struct {
		Objects []struct {
			Table *struct{ Family, Name string }
		} `json:"nftables"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var tables []string
	for _, o := range list.Objects {
		if o.Table != nil {
			tables = append(tables, o.Table.Family+" "+o.Table.Name)
		}
	}
	return tables, nil
}

// run carries out commands in one transaction.
func (l Loader) run(ctx context.Context, commands string) error {
	if commands == "" {
		return nil
	}
	_, err := l.nft(ctx, commands, "--file", "-")
	return err
}

func (l Loader) nft(ctx context.Context, input string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	var out, said strings.Builder
	cmd, err := l.program.Command(ctx, args...)
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &said
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C", "LD_LIBRARY_PATH=" + packed.Visible}
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	err = cmd.Run()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil {
		return []byte(out.String()), nil
	}
	if text := faults(said.String()); text != "" {
		return nil, errors.New(text)
	}
	return nil, fmt.Errorf("nft: %w", err)
}

// mostFaults is how many faults of a file are reported.
const mostFaults = 3

// faults takes the lines with file, line and reason from what nft says, without the pictures of them.
func faults(said string) string {
	var out []string
	for line := range strings.Lines(strings.ToValidUTF8(said, "?")) {
		if line = strings.TrimSpace(line); strings.Contains(line, "Error: ") {
			out = append(out, line)
		}
	}
	if len(out) > mostFaults {
		out = append(out[:mostFaults], fmt.Sprintf("and %d more", len(out)-mostFaults))
	}
	return strings.Join(out, "; ")
}
