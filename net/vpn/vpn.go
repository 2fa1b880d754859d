// Package vpn owns the tunnels of openvpn: it has PID 1 start one openvpn for each profile that is in force, speaks
// with it over its management socket, starts another one when it has ended, and describes the state of each tunnel in
// words.
//
// It gives no link an address: netd does, from the profile as openvpn.Merge returns it. It never starts a process
// itself: each connection to PID 1's socket of the service vpn is one openvpn, which reads its configuration from it. A
// netd that ends leaves every tunnel as it is, and the next one takes it over. No secret is on a command line, in a log
// or on a disk.
//
// Read first: Set, then tunnel.
package vpn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"time"

	"resinos/net/assignment"
	"resinos/net/inforce"
	"resinos/net/openvpn"
	"resinos/net/vpnserver"
)

// Directory is where each tunnel has a directory of its own, called like its link. Beside it, with ".sock" behind the
// name, is the socket at which PID 1 waits for connections for the service vpn (services/shipped/vpn.toml).
const Directory = "/run/resinos/vpn"

// Owner is what a Set uses of netd. Only the goroutine of netd calls Moved.
type Owner struct {
	Files  *inforce.Set
	Events chan<- func(at time.Duration) // what the goroutine of netd is to run
	Moved  func(at time.Duration)        // what a tunnel gives its link has changed
	Log    *slog.Logger
}

// Set is the tunnels of a device. The nil value has none. Only Run may be called beside netd's goroutine.
type Set struct {
	owner     Owner
	directory string
	socket    string
	runs      map[string]*running // by file
	ending    map[string]*running // the same of those that nobody wants any more
	states    map[string]State    // by file
	tasks     sync.WaitGroup
	ctx       context.Context // of Run
	cancel    context.CancelCauseFunc
	swept     bool // what tunnels of an earlier netd nobody wants any more has been ended
}

// running is a tunnel with its end.
type running struct {
	entry assignment.Entry
	stop  context.CancelCauseFunc
	ended chan struct{} // closed by the goroutine of the tunnel
}

// New returns nil if directory is empty: there are no tunnels.
func New(directory string, owner Owner) *Set {
	if directory == "" {
		return nil
	}
	s := &Set{owner: owner, directory: directory, socket: directory + ".sock", runs: map[string]*running{},
		ending: map[string]*running{}, states: map[string]State{}}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// Run returns when ctx has ended and no goroutine of a tunnel runs any more. The tunnels themselves stay.
func (s *Set) Run(ctx context.Context) {
	<-ctx.Done()
	s.cancel(context.Cause(ctx))
	s.tasks.Wait()
}

// tunnelOf returns what a profile asks of openvpn.
func tunnelOf(e assignment.Entry) openvpn.Tunnel {
	if e.Profile.VPN.ServiceType == openvpn.Serving {
		return vpnserver.For(e.File, e.Profile)
	}
	return openvpn.For(e.File, e.Profile, readFile)
}

// Drive makes the tunnels those that the key files ask for. The links that are there get what their tunnels give them
// (Files.Tunnels).
func (s *Set) Drive() {
	if s == nil || !s.owner.Files.Known {
		return
	}
	wanted, links := map[string]assignment.Entry{}, map[string]bool{}
	for _, e := range s.owner.Files.Wanted() {
		if link := openvpn.LinkName(e.File, e.Profile); openvpn.Drives(e.Profile) && !links[link] {
			wanted[e.File], links[link] = e, true
		}
	}
	for file, r := range s.runs {
		if e, still := wanted[file]; !still || !reflect.DeepEqual(e, r.entry) {
			r.stop(errNotWanted)
			if !still {
				s.ending[file] = r
				delete(s.runs, file)
				delete(s.states, file)
			}
		}
	}
	for file, e := range wanted {
		if r := s.runs[file]; r == nil || !reflect.DeepEqual(e, r.entry) {
			s.begin(e, cmp.Or(r, s.ending[file]))
			delete(s.ending, file)
		}
	}
	s.sweep(links)
	s.give(wanted)
}

// begin starts a tunnel, once an earlier one of the same file has ended.
func (s *Set) begin(e assignment.Entry, before *running) {
	ctx, stop := context.WithCancelCause(s.ctx)
	r := &running{entry: e, stop: stop, ended: make(chan struct{})}
	s.runs[e.File] = r
	dir := filepath.Join(s.directory, openvpn.LinkName(e.File, e.Profile))
	if before == nil { // perhaps a tunnel of an earlier netd
		t := tunnelOf(e)
		if old := readRecord(dir); old.Up != nil && old.Digest == digest(t) {
			s.states[e.File] = State{Phase: Connecting, Up: old.Up, Tunnel: t}
		}
	}
	one := &tunnel{entry: e, dir: dir, socket: s.socket, log: s.owner.Log,
		tell: func(now State) {
			select {
			case s.owner.Events <- func(at time.Duration) { s.take(at, r, now) }:
			case <-ctx.Done():
			}
		}}
	s.tasks.Go(func() {
		defer close(r.ended)
		if before != nil {
			<-before.ended
		}
		one.run(ctx)
	})
}

// take takes the state of a tunnel over.
func (s *Set) take(at time.Duration, of *running, now State) {
	file := of.entry.File
	if s.runs[file] != of {
		return // it is not wanted any more
	}
	moved := !reflect.DeepEqual(s.states[file].Up, now.Up)
	s.states[file] = now
	if moved {
		s.owner.Moved(at)
	}
}

// give tells the key files what links have because of tunnels.
func (s *Set) give(wanted map[string]assignment.Entry) {
	tunnels := map[string]assignment.Entry{}
	for file, state := range s.states {
		e, known := wanted[file]
		if !known || state.Up == nil {
			continue
		}
		e.Profile, _ = state.Tunnel.Merge(e.Profile, *state.Up)
		tunnels[state.Tunnel.Link] = e
	}
	s.owner.Files.Tunnels = tunnels
}

// sweep ends tunnels of an earlier netd that nobody wants any more.
func (s *Set) sweep(links map[string]bool) {
	if s.swept {
		return
	}
	s.swept = true
	list, _ := os.ReadDir(s.directory) // without it there were none
	for _, d := range list {
		if !links[d.Name()] {
			s.tasks.Go(func() { endProcess(filepath.Join(s.directory, d.Name())) })
		}
	}
}

// Words says what the tunnel of a file does; empty: there is none.
func (s *Set) Words(file string) string {
	if s == nil {
		return ""
	}
	if state, known := s.states[file]; known {
		return state.Words()
	}
	return ""
}

// Notes says what of a profile is left out.
func (s *Set) Notes(file string) []string {
	if s == nil {
		return nil
	}
	state := s.states[file]
	notes := state.Tunnel.Notes
	if r := s.runs[file]; r != nil && state.Up != nil {
		_, left := state.Tunnel.Merge(r.entry.Profile, *state.Up)
		notes = append(notes[:len(notes):len(notes)], left...)
	}
	return notes
}

// Plan shows what openvpn is told for a profile, without keys; nil if the profile is not for it.
func Plan(e assignment.Entry) []string {
	if !openvpn.Drives(e.Profile) {
		return nil
	}
	t := tunnelOf(e)
	if t.Fault != "" {
		return []string{"refused: " + t.Fault}
	}
	return []string{fmt.Sprintf("start openvpn for the link %s:", t.Link), t.String()}
}

// largestFile bounds certificates and keys.
const largestFile = 1 << 20

// readFile reads a certificate or key of the owner.
func readFile(path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%q is not the full path of a file", path)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO does not hold us
	if err != nil {
		return nil, err
	}
	defer file.Close() // it was only read
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	return io.ReadAll(io.LimitReader(file, largestFile))
}
