package osctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// change makes the command for start, stop, restart and reload.
func change(op string) func(context.Context, *session, *flag.FlagSet, []string) error {
	return func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
		return s.each(ctx, op, flags, args, func(k *pid1.Kill) string { return op + " service " + k.Name })
	}
}

func kill(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	signal := flags.String("signal", "KILL", "sends the signal `NAME`: TERM, HUP, KILL, ...")
	all := flags.Bool("all", false, "sends it to every process of the service, not only to the main one")
	return s.each(ctx, pid1.OpKill, flags, args, func(t *pid1.Kill) string {
		t.Signal, t.All = *signal, *all
		to := "service "
		if t.All {
			to = "every process of service "
		}
		return "send SIG" + t.Signal + " to " + to + t.Name
	})
}

// each asks PID 1 for op on one named service after the other, and stops at the first that fails.
func (s *session) each(ctx context.Context, op string, flags *flag.FlagSet, args []string, plan func(*pid1.Kill) string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return cli.Misuse(op+" needs a service name", "try: osctl status")
	}
	for _, name := range names {
		t := pid1.Kill{Name: name}
		if text := plan(&t); *dry {
			fmt.Fprintln(s.Stdout, text)
			continue
		}
		st, err := s.ask(ctx, op, t)
		if err != nil {
			return err
		}
		fmt.Fprintln(s.Stdout, s.outcome(st))
	}
	return nil
}

// ask has PID 1 do op and waits for its answer. Ctrl-C ends only the waiting.
func (s *session) ask(ctx context.Context, op string, k pid1.Kill) (pid1.ServiceStatus, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	settled := s.Waiting(doing(op) + " " + screen.Escape(k.Name))
	st, err := s.order(ctx, op, k)
	settled()
	err = cli.Silent(err)
	if err != nil && ctx.Err() != nil {
		return st, cli.Advise(fmt.Errorf("stopped waiting: PID 1 continues with %s %s", op, screen.Escape(k.Name)), "try: osctl status "+screen.Escape(k.Name))
	}
	return st, err
}

// order sends one order about a service: a change, or a signal.
func (s *session) order(ctx context.Context, op string, k pid1.Kill) (pid1.ServiceStatus, error) {
	if op == pid1.OpKill {
		return s.Client().Kill(ctx, k)
	}
	return s.Client().Change(ctx, pid1.Change(op), k.Name)
}

func doing(op string) string {
	switch op {
	case "stop":
		return "stopping"
	case "kill":
		return "signalling"
	}
	return op + "ing"
}

func (s *session) outcome(st pid1.ServiceStatus) string {
	text := screen.Escape(st.Name) + " is " + s.Paint(stateColour(st.State), screen.Escape(st.State))
	if st.PID > 0 {
		text += fmt.Sprintf(", pid %d", st.PID)
	}
	return text
}

// power makes the command for reboot and poweroff.
func power(action pid1.Power) func(context.Context, *session, *flag.FlagSet, []string) error {
	return func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
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

func reexec(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
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

// lifeTime is how long a change of life may take. The server lets a silent client wait longer.
const lifeTime = 5 * time.Second

// newLife asks PID 1 to re-exec and waits until it answers again. PID 1 answers first and goes then, so only the end of a
// connection that is held meanwhile tells that it went.
func (s *session) newLife(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lifeTime)
	defer cancel()
	held, err := new(net.Dialer).DialContext(ctx, "unix", s.Control)
	if err != nil {
		return cli.Silent(err)
	}
	defer held.Close() // nothing is written
	if err := s.Client().Reexec(ctx, ""); err != nil {
		return cli.Silent(err)
	}
	settled := s.Waiting("waiting for PID 1")
	defer settled()
	if err := held.SetReadDeadline(time.Now().Add(lifeTime)); err != nil {
		return err
	}
	if _, err := held.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return cli.Advise(errors.New("PID 1 did not re-execute: it continues as before"), "try: osctl logs -p warning")
	}
	return s.answers(ctx)
}

// answers waits until PID 1 answers; while it changes its life nobody listens.
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
