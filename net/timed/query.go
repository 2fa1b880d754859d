package timed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"

	"resinos/net/clock"
)

// The longest time for a time server and for the name servers.
const (
	askPatience     = 2 * time.Second
	resolvePatience = 7 * time.Second // Go's resolver gives each of three name servers 5 s; a round has 8 s
)

// Answer is the result of asking a server.
type Answer struct {
	Sample clock.Sample
	Kiss   string // the server's code, if it refuses to be asked
	Fault  string // what went wrong
}

// Ask asks one server once, and returns early if ctx ends. raw is the clock that measures the sample.
func Ask(ctx context.Context, server netip.AddrPort, raw func() time.Time) Answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := ntp.QueryWithOptions(server.String(), ntp.QueryOptions{
		Timeout: askPatience, GetSystemTime: raw,
		Dialer: func(_, remote string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "udp", remote)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = conn.Close() }) // closing twice does no harm
			}
			return conn, err
		},
	})
	if err != nil {
		return Answer{Fault: say(err)}
	}
	err = r.Validate()
	switch {
	case r.Stratum == 0: // even with a code that cannot be printed
		return Answer{Kiss: fmt.Sprintf("%-4.4s", r.KissCode)}
	case err != nil && errors.Is(err, ntp.ErrInvalidLeapSecond), errors.Is(err, ntp.ErrInvalidStratum):
		return Answer{Sample: clock.Sample{Stratum: 16}}
	case err != nil:
		return Answer{Fault: err.Error()}
	}
	return Answer{Sample: clock.Sample{
		At: r.Timestamps.ClientXmit.Add(r.RTT / 2), Offset: r.ClockOffset, Delay: r.RTT,
		RootDelay: r.RootDelay, RootDispersion: r.RootDispersion, Stratum: int(r.Stratum),
	}}
}

// say shortens an error of the network.
func say(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	case errors.Is(err, unix.ECONNREFUSED):
		return "nothing listens there"
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return "no route to it"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "there is no such name"
	case errors.As(err, &dns) && dns.IsTimeout, errors.As(err, &dns) &&
		strings.HasSuffix(dns.Err, unix.ECONNREFUSED.Error()):
		return "no name server answers"
	case errors.As(err, &dns):
		return "the name server says: " + dns.Err
	}
	return err.Error()
}

// Lookup finds the addresses of a name by the system's resolver.
func Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolvePatience)
	defer cancel()
	if strings.Contains(name, ".") {
		name += "." // a full name: each search domain would cost four more questions, in vain
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}
