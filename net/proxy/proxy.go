// Package proxy leads the connections of a device through the owner's proxy server. It owns the table of the packet
// filter that redirects connections to the service (Plan), the service that carries them to the server, and the answers
// to name questions.
//
// It starts only where redsocks.conf is, and never touches tables of others. The proxy server may be down, silent or
// hostile: what it can do is bounded in time and memory, and everything is tried again with the next connection.
//
// Read first: Service, then Plan.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/mounts/plainfile"
	"resinos/net/redsocks"
	"resinos/net/ruleset"
	"resinos/net/upstream"
)

// The places on a device.
const (
	Dir   = "/mnt/boot/system-proxy" // of the owner's files
	State = "/run/resinos/proxy"     // of what the service tells others, and the files that are in force
)

// Service leads connections through the proxy server that a directory's files name.
type Service struct {
	Dir   string // empty: Dir
	State string // empty: State
	Log   *slog.Logger

	verdict verdict
	now     *force // nil: nothing is in force
	fault   string // why the files as they are do not count
}

// again is the pause after which what the kernel refused is tried again, and a proxy server that does not answer asked.
const again = 10 * time.Second

// Run serves until ctx ends, or until redsocks.conf is gone. Then nothing is redirected any more.
func (s *Service) Run(ctx context.Context) error {
	if s.Dir == "" {
		s.Dir, s.State = Dir, State
	}
	s.verdict = verdict{dir: s.State, log: s.Log, changed: make(chan struct{}, 1)}
	look := make(chan struct{}, 1)
	poke := func() {
		select {
		case look <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.watch(ctx, poke) })
	beside.Go(func() {
		if err := ruleset.Watch(ctx, poke); err != nil {
			s.Log.Warn("packet filter not watched", "error", err)
		}
	})
	beside.Go(func() { s.verdict.ask(ctx) })
	gone := s.follow(ctx, look)
	stop()
	beside.Wait()
	return s.leave(gone)
}

// watch calls changed at the start and when something in the directory may have changed, until ctx ends.
func (s *Service) watch(ctx context.Context, changed func()) {
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MOVE | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	w, err := dirwatch.Open(s.Dir, mask, s.Log)
	changed()
	if err != nil {
		return // the directory is gone, and the files with it
	}
	defer w.Close() // it is read no more
	for w.Wait(ctx, 0) == nil {
		changed()
	}
	changed()
}

// follow makes the files count until ctx ends, or until they are gone.
func (s *Service) follow(ctx context.Context, look <-chan struct{}) (gone bool) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-look:
		case <-retry.C:
		}
		w, err := s.read()
		if errors.Is(err, fs.ErrNotExist) {
			s.Log.Info("proxy file gone", "path", filepath.Join(s.Dir, redsocks.Name))
			return true
		}
		if err != nil && s.now == nil { // a life before this one may have had files that were right
			if before, fault := readFiles(s.State); fault == nil {
				err = errors.Join(err, s.apply(ctx, before))
			}
		}
		if err == nil {
			if err = s.apply(ctx, w); err != nil {
				retry.Reset(again)
			}
		}
		s.note(err)
	}
}

// note keeps why the files as they are do not count, and logs it once.
func (s *Service) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != s.fault {
		s.Log.Error("proxy files not in force", "error", err)
	}
	s.fault = text
	s.verdict.file(text, s.now != nil)
}

// wish is what the owner's files ask for, and their texts.
type wish struct {
	conf   redsocks.Config
	beside []netip.Prefix
	texts  map[string]string // by the name of the file
}

// read reads the files. Without redsocks.conf the error is fs.ErrNotExist.
func (s *Service) read() (wish, error) { return readFiles(s.Dir) }

func readFiles(dir string) (w wish, err error) {
	w.texts = map[string]string{}
	for _, name := range []string{redsocks.Name, redsocks.NoProxy} {
		path := filepath.Join(dir, name)
		text, fault := plainfile.Read(path, redsocks.MaxSize)
		switch {
		case errors.Is(fault, fs.ErrNotExist) && name == redsocks.Name:
			return w, fault
		case errors.Is(fault, fs.ErrNotExist): // nothing is beside the proxy
		case fault != nil:
			err = errors.Join(err, fmt.Errorf("read %s: %w", path, fault))
		case name == redsocks.Name:
			w.conf, fault = redsocks.Parse(text)
		default:
			w.beside, fault = redsocks.ParseNoProxy(text)
		}
		if fault != nil && !errors.Is(fault, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, fault))
		}
		w.texts[name] = string(text)
	}
	return w, err
}

// force is what is in force.
type force struct {
	wish wish
	stop func() // ends the listeners and all connections
}

// same reports whether two wishes have the same listeners.
func (w wish) same(o wish) bool {
	var a, b redsocks.Names
	if w.conf.Names != nil {
		a = *w.conf.Names
	}
	if o.conf.Names != nil {
		b = *o.conf.Names
	}
	return w.conf.Port == o.conf.Port && w.conf.Containers == o.conf.Containers && a == b
}

// apply puts files in force: the listeners first, then the table that leads to them.
func (s *Service) apply(ctx context.Context, w wish) error {
	table := Plan(w.conf, w.beside)
	if s.now != nil && s.now.wish.texts[redsocks.Name] == w.texts[redsocks.Name] &&
		slices.Equal(s.now.wish.beside, w.beside) {
		if ruleset.There(table) {
			return nil
		}
		return ruleset.Apply([]ruleset.Table{table}) // somebody has removed it
	}
	s.verdict.server(upstream.Dialer{Server: w.conf.Server})
	if s.now == nil || !s.now.wish.same(w) {
		if s.now != nil { // the ports may be the same
			s.now.stop()
			s.now = nil
		}
		stop, err := s.listen(ctx, w.conf)
		if err != nil {
			return err
		}
		s.now = &force{stop: stop}
	}
	if err := ruleset.Apply([]ruleset.Table{table}); err != nil {
		return err
	}
	s.now.wish = w
	s.Log.Info("connections led through the proxy", "server", w.conf.Server.String())
	for _, text := range w.conf.Warnings {
		s.Log.Warn("proxy file", "path", filepath.Join(s.Dir, redsocks.Name), "warning", text)
	}
	for _, step := range table.Steps() {
		s.Log.Debug("link step", "step", step)
	}
	return s.keep(w)
}

// keep writes the files that are in force for the next life of this service, in RAM.
func (s *Service) keep(w wish) error {
	if err := os.MkdirAll(s.State, 0o700); err != nil {
		return err
	}
	for name, text := range w.texts {
		path := filepath.Join(s.State, name)
		err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
		if err != nil {
			return err
		}
	}
	return nil
}

// leave ends what is in force, and removes what a life before this one may have left: the files that were in force too
// if the owner has removed his.
func (s *Service) leave(gone bool) error {
	var err error
	if gone := Plan(redsocks.Config{}, nil); ruleset.There(gone) { // first: nothing is led to a closed port
		err = ruleset.Apply(nil, gone)
	}
	if s.now != nil {
		s.now.stop()
		s.now = nil
	}
	if gone {
		return errors.Join(err, os.RemoveAll(s.State))
	}
	if fault := os.Remove(filepath.Join(s.State, statusFile)); !errors.Is(fault, fs.ErrNotExist) {
		err = errors.Join(err, fault)
	}
	return err
}

// listen opens the ports; stop closes them and all connections.
func (s *Service) listen(ctx context.Context, conf redsocks.Config) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &passages{dial: s.verdict.dial}
	n := &names{}
	if conf.Names != nil && conf.Names.Server.IsValid() {
		n.ask = &asker{dial: func(ctx context.Context) (net.Conn, error) {
			return s.verdict.connect(ctx, conf.Names.Server)
		}}
	}
	var open []interface{ Close() error }
	var serving sync.WaitGroup
	stop = func() {
		cancel()
		for _, one := range open {
			_ = one.Close() // nothing waits in it
		}
		if n.ask != nil {
			n.ask.close()
		}
		serving.Wait()
		p.running.Wait()
		n.running.Wait()
		if n.ask != nil {
			n.ask.close() // one more may have come meanwhile
		}
	}
	for _, host := range hosts(conf.Containers) {
		var l net.Listener
		if l, err = net.Listen(host.tcp, fmt.Sprintf("%s:%d", host.address, conf.Port)); err != nil {
			stop()
			return nil, fmt.Errorf("serve connections for the proxy: %w; choose another local_port", err)
		}
		open = append(open, l)
		serving.Go(func() { p.accept(ctx, l.(*net.TCPListener)) })
		if conf.Names == nil {
			continue
		}
		var c *net.UDPConn
		if c, err = listenNames(ctx, host, conf.Names.Port); err != nil {
			stop()
			return nil, fmt.Errorf("serve name questions for the proxy: %w; choose another local_port", err)
		}
		open = append(open, c)
		serving.Go(func() { n.serve(ctx, c) })
	}
	return stop, nil
}
