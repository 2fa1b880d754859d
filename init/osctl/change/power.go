package change

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// Power makes the command for reboot or poweroff.
func Power(action pid1.Power) cli.Run {
	return func(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
		dry := flags.Bool("n", false, "prints what it would do, and does nothing")
		force := flags.Bool("force", false, "acts at once: does not ask services to stop first")
		if err := cli.Bare(flags, args); err != nil {
			return err
		}
		if *dry {
			plan := "stop all services, detach all file systems"
			if *force {
				plan = "kill all services, write out the disks"
			}
			fmt.Fprintf(s.Stdout, "%s, %s\n", plan, action)
			return nil
		}
		return cli.Silent(s.Client().Power(ctx, pid1.Shutdown{Action: action, Force: *force}))
	}
}

// Reexec runs the command re-exec.
func Reexec(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	if *dry {
		fmt.Fprintln(s.Stdout, "PID 1 writes its state, re-executes its binary and takes over its services")
		return nil
	}
	begin := time.Now()
	if err := s.newLife(ctx); err != nil {
		return err
	}
	fmt.Fprintf(s.Stdout, "PID 1 was re-executed in %s\n", screen.Span(time.Since(begin).Seconds()))
	return nil
}

// reexecTime is how long a re-exec may take. The server lets a silent client wait longer.
const reexecTime = 5 * time.Second

// newLife asks PID 1 to re-execute and waits until it answers again. PID 1 answers before it re-executes, so only the
// end of a connection that is held meanwhile shows that it did.
func (s *session) newLife(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reexecTime)
	defer cancel()
	held, err := new(net.Dialer).DialContext(ctx, "unix", s.Control)
	if err != nil {
		return cli.Silent(err)
	}
	defer held.Close() // nothing is written
	if err := s.Client().Reexec(ctx, ""); err != nil {
		return cli.Silent(err)
	}
	waited := s.Waiting("waiting for PID 1")
	defer waited()
	if err := held.SetReadDeadline(time.Now().Add(reexecTime)); err != nil {
		return err
	}
	if _, err := held.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return cli.Advise(errors.New("PID 1 did not re-execute: it continues as before"), "try: osctl logs -p warning")
	}
	return s.answers(ctx)
}

// answers waits until PID 1 answers; while it re-executes nobody listens.
func (s *session) answers(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.Services(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
