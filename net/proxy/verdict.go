package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/plainfile"
	"resinos/net/redsocks"
	"resinos/net/upstream"
)

// Status is what the service tells others. Its JSON is the format of a file in State.
type Status struct {
	Server string `json:"server,omitempty"` // as in "socks5 10.0.0.1:1080"; empty: no connection is led anywhere
	File   string `json:"file,omitempty"`   // why the files as they are now do not count
	Fault  string `json:"fault,omitempty"`  // why the server does not work
}

const statusFile, maxStatus = "status.json", 64 << 10

// Read returns the status below the directory State; ok is whether there is one.
func Read(dir string) (s Status, ok bool) {
	text, err := plainfile.Read(filepath.Join(dir, statusFile), maxStatus)
	if err != nil || json.Unmarshal(text, &s) != nil {
		return Status{}, false // the service does not run
	}
	return s, true
}

// Faults returns what is wrong, in words for the owner.
func (s Status) Faults() (faults []string) {
	if s.File != "" {
		faults = append(faults, "proxy: "+s.File)
	}
	if s.Fault != "" {
		faults = append(faults, fmt.Sprintf("proxy: %s: %s; each new connection tries again", s.Server, s.Fault))
	}
	return faults
}

// notePause is the time between two lines in the log about the server: connections fail as often as programs try.
const notePause = 10 * time.Second

// verdict knows the server, and whether it works.
type verdict struct {
	dir     string
	log     *slog.Logger
	changed chan struct{} // there is something to ask

	mu        sync.Mutex // guards what follows
	dialer    upstream.Dialer
	known     bool // connections are led to the server
	status    Status
	unreached bool // because nobody could connect with the server
	logged    time.Time
}

// server replaces the server, of which nothing is known yet.
func (v *verdict) server(d upstream.Dialer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dialer.Server != d.Server {
		v.status.Fault, v.unreached = "", false
	}
	v.dialer, v.status.Server = d, d.Server.String()
}

// wake has ask look again.
func (v *verdict) wake() {
	select {
	case v.changed <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// file takes why the files do not count, and whether others are in force.
func (v *verdict) file(fault string, inForce bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.File = fault
	if fault != "" && inForce {
		v.status.File += "; what was there before stays in force"
	}
	if v.known = inForce; !inForce {
		v.status.Server = ""
	}
	v.write()
	v.wake()
}

// current returns the server, and whether it could not be reached.
func (v *verdict) current() (d upstream.Dialer, known, unreached bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.dialer, v.known, v.unreached
}

// dial connects through the server, and notes whether it works.
func (v *verdict) dial(ctx context.Context, to netip.AddrPort, client net.Conn) (net.Conn, []byte, error) {
	d, _, _ := v.current()
	conn, early, err := d.Dial(ctx, to, client)
	var refused *upstream.RefusedError
	if errors.As(err, &refused) {
		v.log.Debug("proxy refuses", "address", to, "error", err)
		v.judge(d.Server, nil)
	} else if ctx.Err() == nil {
		v.judge(d.Server, err)
	}
	return conn, early, err
}

// connect is dial for a connection on which the server speaks second.
func (v *verdict) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, early, err := v.dial(ctx, to, nil)
	if err == nil && len(early) > 0 {
		return nil, errors.Join(errors.New("it sends something before it was asked"), conn.Close())
	}
	return conn, err
}

// judge notes what became of an attempt with a server. While the device has no network, nothing is known of the server.
func (v *verdict) judge(about redsocks.Server, err error) {
	text := ""
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
		return
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		text = "it does not answer"
	case err != nil:
		text = err.Error()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dialer.Server != about || text == v.status.Fault {
		return
	}
	var op *net.OpError
	v.status.Fault, v.unreached = text, errors.As(err, &op) && op.Op == "dial"
	v.write()
	if v.unreached {
		v.wake()
	}
	if text == "" {
		v.log.Info("proxy server works", "server", about.Address())
	} else if time.Since(v.logged) >= notePause {
		v.logged = time.Now()
		v.log.Warn("proxy server does not work", "server", about.Address(), "error", text)
	}
}

// write replaces the file. v.mu is held.
func (v *verdict) write() {
	text, err := json.Marshal(v.status)
	if err == nil {
		err = os.MkdirAll(v.dir, 0o700)
	}
	if err == nil { // in RAM: nothing waits for a disk
		path := filepath.Join(v.dir, statusFile)
		err = errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
	}
	if err != nil {
		v.log.Warn("status of the proxy not written", "error", err)
	}
}

// ask asks the server at the start, and again and again while it could not be reached, until ctx ends: who looks at the
// status must not see what was true when a program connected last.
func (v *verdict) ask(ctx context.Context) {
	var asked redsocks.Server
	retry := time.NewTimer(again)
	defer retry.Stop()
	for due := false; ; {
		d, known, unreached := v.current()
		if known && (d.Server != asked || due && unreached) {
			asked = d.Server
			if err := d.Check(ctx); ctx.Err() == nil && (err != nil || unreached) {
				v.judge(d.Server, err)
			}
		}
		var later <-chan time.Time
		if _, _, unreached = v.current(); unreached {
			retry.Reset(again)
			later = retry.C
		}
		select {
		case <-ctx.Done():
			return
		case <-v.changed:
			due = false
		case <-later:
			due = true
		}
	}
}
