// Package mdns answers for <hostname>.local on the links of the device, announces its services there (RFC 6762, 6763),
// and asks for the names of others.
//
// What to send is decided by Machine, which has no sockets. It never answers on links of containers, and ignores
// messages from outside the link.
//
// Read first: Config, then Machine.
package mdns

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"resinos/net/dnswire"
	"resinos/net/link"
)

// port is that of mDNS.
const port = 5353

// Wish is what the owner wants.
type Wish struct {
	Hostname string
	Services []Service
	Off      bool
	Silent   []string // links on which nothing is said or asked
}

// Config holds what a Responder needs.
type Config struct {
	Serves  func(link.Link) bool // nil: wired and wireless links, and what netd has created above them
	SysRoot string               // empty: "/sys"
	Log     *slog.Logger         // nil: nothing is logged
}

// Responder answers on links from Run on. Set changes what it says.
type Responder struct {
	cfg    Config
	wishes chan Wish
	// faces are the links as Lookup needs them, and the device's own name.
	faces atomic.Pointer[faces]
}

type faces struct {
	host  dnswire.Name
	links map[int]face
}

// New returns a responder that is silent until Set.
func New(cfg Config) *Responder {
	if cfg.Serves == nil {
		cfg.Serves = usual
	}
	if cfg.SysRoot == "" {
		cfg.SysRoot = "/sys"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Responder{cfg: cfg, wishes: make(chan Wish)}
	r.faces.Store(&faces{})
	return r
}

// usual reports whether a link leads to neighbours of the device, not to its containers.
func usual(l link.Link) bool {
	own := l.Own && slices.Contains([]string{"bond", "bridge", "vlan"}, l.Type)
	return l.Kind == link.Wired || l.Kind == link.Wifi || l.Kind == link.Virtual && own
}

// Set replaces the wish. It waits until Run has taken it, or ctx ends.
func (r *Responder) Set(ctx context.Context, w Wish) {
	select {
	case r.wishes <- w:
	case <-ctx.Done():
	}
}

// run is the state of Run. One goroutine owns it.
type run struct {
	*Responder
	machine *Machine // nil while the owner wants none
	wish    Wish
	open    map[int]*socket
	packets chan Packet
	readers sync.WaitGroup
	host    dnswire.Name // as it was last reported
	start   time.Time
}

// Run answers until ctx ends, then takes back what it has announced. It fails only if it cannot begin.
func (r *Responder) Run(ctx context.Context) error {
	w, err := watch()
	if err != nil {
		return err
	}
	defer w.close()
	s := &run{Responder: r, open: map[int]*socket{}, packets: make(chan Packet), start: time.Now()}
	defer s.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	s.survey()
	for {
		s.report()
		timer.Stop()
		if s.machine != nil {
			if at := s.machine.Deadline(); at != 0 {
				timer.Reset(max(at-s.now(), 0))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case wish := <-r.wishes:
			s.take(wish)
		case <-w.changed:
			s.survey()
		case p := <-s.packets:
			if s.machine != nil {
				s.send(s.machine.Receive(s.now(), p))
			}
		case <-timer.C:
			s.send(s.machine.Tick(s.now()))
		}
	}
}

// now is the time since the start, and never 0, which means never.
func (s *run) now() time.Duration { return time.Since(s.start) + 1 }

func (s *run) take(w Wish) {
	s.wish = w
	switch {
	case w.Off && s.machine != nil:
		s.send(s.machine.Goodbye())
		s.machine = nil
	case !w.Off && s.machine == nil:
		s.machine = NewMachine(w.Hostname, w.Services)
	case !w.Off:
		s.send(s.machine.Rename(s.now(), w.Hostname, w.Services))
	}
	s.survey()
}

// report logs a new name, and gives Lookup what it needs.
func (s *run) report() {
	host := dnswire.Name("")
	if s.machine != nil {
		host = s.machine.Host()
	}
	if host != s.host && host != "" {
		s.cfg.Log.Info("name on the local network", "names", host.String())
	}
	s.host = host
	now := &faces{host: host, links: map[int]face{}}
	for index, one := range s.open {
		now.links[index] = one.face
	}
	s.faces.Store(now)
}

func (s *run) send(messages []Send) {
	for _, m := range messages {
		one := s.open[m.Link]
		if one == nil {
			continue
		}
		if err := one.send(m.Message.Pack(), m.To); err != nil {
			s.cfg.Log.Debug("message not sent", "link", one.name, "error", err)
		}
	}
}

// survey opens and closes sockets as links come and go.
func (s *run) survey() {
	now, err := observe(s.cfg.SysRoot, func(l link.Link) bool {
		return s.cfg.Serves(l) && !slices.Contains(s.wish.Silent, l.Name)
	})
	if err != nil {
		s.cfg.Log.Warn("links not listed", "error", err)
		return
	}
	for index, one := range s.open {
		if f, there := now[index]; !there || f.name != one.name {
			s.shut(index)
		}
	}
	for index, f := range now {
		one := s.open[index]
		if one == nil {
			if one, err = open(f); err != nil {
				s.cfg.Log.Warn("no names on the link", "link", f.name, "error", err)
				continue
			}
			s.open[index] = one
			s.readers.Go(func() { one.read(s.packets) })
		}
		one.update(f)
		if s.machine != nil {
			s.machine.Link(s.now(), index, f.addresses)
		}
	}
}

func (s *run) shut(index int) {
	s.open[index].close()
	delete(s.open, index)
	if s.machine != nil {
		s.machine.Gone(index)
	}
}

func (s *run) close() {
	if s.machine != nil {
		s.send(s.machine.Goodbye())
	}
	for _, one := range s.open {
		one.close()
	}
	s.readers.Wait()
	s.faces.Store(&faces{})
}

// addressesOf returns the addresses of one family.
func addressesOf(list []netip.Prefix, four bool) (out []netip.Addr) {
	for _, p := range list {
		if p.Addr().Is4() == four {
			out = append(out, p.Addr())
		}
	}
	return out
}
