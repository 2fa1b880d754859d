// Package probe owns the checks of a service: whether it may start (Conditions), whether it is up (Ready) and whether
// it still does its work (Health). It starts nothing itself, because the caller passes in a function that runs a
// command, and it never decides what a result leads to. Read Ready first.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"resinos/services/spec"
)

// Run runs a command to its end, or until the context ends; nil is exit code 0.
type Run = func(ctx context.Context, command []string) error

// pace is how often a check is repeated: the pause doubles from first to last. each is the longest time of one check.
type pace struct{ first, last, each time.Duration }

var (
	portPace    = pace{50 * time.Millisecond, 500 * time.Millisecond, time.Second}
	commandPace = pace{100 * time.Millisecond, time.Second, spec.DefaultHealthTimeout}
)

// Ready waits until the service is up as r demands, and returns nil. If ctx ends first, the error wraps ctx's cause and
// contains the last answer. With a zero r it returns at once.
func Ready(ctx context.Context, r spec.Ready, run Run) error {
	switch {
	case r.Port != "":
		p, err := parsePort(r.Port)
		if err != nil {
			return err
		}
		if err := retry(ctx, portPace, p.connect); err != nil {
			return fmt.Errorf("await port %s: %w", r.Port, err)
		}
	case len(r.Command) > 0:
		ask := func(ctx context.Context) error { return run(ctx, r.Command) }
		if err := retry(ctx, commandPace, ask); err != nil {
			return fmt.Errorf("await success of %s: %w", r.Command[0], err)
		}
	}
	return nil
}

// retry repeats the check until its answer is nil or ctx ends.
func retry(ctx context.Context, p pace, ask func(context.Context) error) error {
	pause := time.NewTimer(p.first)
	defer pause.Stop()
	for wait := p.first; ; wait = min(2*wait, p.last) {
		err := bounded(ctx, p.each, ask)
		if ctx.Err() == nil && err == nil {
			return nil
		}
		pause.Reset(wait)
		select {
		case <-ctx.Done():
			return ended(ctx, err)
		case <-pause.C:
		}
	}
}

// bounded checks once; an answer that takes longer than limit is an error. A check that succeeds has succeeded, however
// late.
func bounded(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	one, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	err := ask(one)
	if err != nil && one.Err() != nil {
		return context.Cause(one)
	}
	return err
}

// ended returns the error for a ctx that has ended before there was a good answer.
func ended(ctx context.Context, last error) error {
	cause := context.Cause(ctx)
	if last == nil || errors.Is(last, cause) {
		return cause
	}
	return fmt.Errorf("%w (last: %v)", cause, last)
}

// port is an address that accepts connections.
type port struct{ network, address string }

// parsePort reads "tcp:HOST:PORT", with a number for the host, localhost or nothing (which is this device), or
// "unix:/PATH". No name is looked up: PID 1 does not use the network.
func parsePort(text string) (port, error) {
	network, address, _ := strings.Cut(text, ":")
	fault := func(why string) (port, error) {
		return port{}, fmt.Errorf("parse port %q: %s", text, why)
	}
	switch network {
	case "unix":
		if !strings.HasPrefix(address, "/") {
			return fault("no absolute path")
		}
		return port{network, address}, nil
	case "tcp":
		host, number, err := net.SplitHostPort(address)
		if err != nil {
			return fault("no HOST:PORT")
		}
		if host == "" || host == "localhost" {
			host = "127.0.0.1"
		}
		to, err := netip.ParseAddrPort(net.JoinHostPort(host, number))
		if err != nil || to.Port() == 0 {
			return fault("no number of a host and a port")
		}
		return port{network, to.String()}, nil
	}
	return fault("neither tcp: nor unix:")
}

func (p port) connect(ctx context.Context) error {
	conn, err := (&net.Dialer{KeepAlive: -1, FallbackDelay: -1}).DialContext(ctx, p.network, p.address)
	if err != nil {
		return err
	}
	return conn.Close()
}
