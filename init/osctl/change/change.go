// Package change owns the commands of osctl that make PID 1 act: start, stop, restart, reload and kill on services,
// reboot and poweroff on the device, re-exec on PID 1 itself. Each prints what it would do with -n, and else waits for
// the answer; Ctrl-C ends the waiting, and PID 1 continues. Read Service first.
package change

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/look"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Service makes the command for start, stop, restart or reload.
func Service(op pid1.Change) cli.Run {
	return func(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
		plan := func(k *pid1.Kill) string { return string(op) + " service " + k.Name }
		return (&session{call}).each(ctx, string(op), flags, args, plan)
	}
}

// Kill runs the command kill.
func Kill(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	signal := flags.String("signal", "KILL", "sends the signal `NAME`: TERM, HUP, KILL, ...")
	all := flags.Bool("all", false, "sends it to every process of the service, not only to the main one")
	return (&session{call}).each(ctx, pid1.OpKill, flags, args, func(t *pid1.Kill) string {
		t.Signal, t.All = *signal, *all
		to := "service "
		if t.All {
			to = "every process of service "
		}
		return "send SIG" + t.Signal + " to " + to + t.Name
	})
}

// each asks PID 1 for op on one named service after the other, and stops at the first that fails.
func (s *session) each(ctx context.Context, op string, flags *flag.FlagSet, args []string,
	plan func(*pid1.Kill) string) error {
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
		if err := s.do(ctx, op, t); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops a service and prints what became of it.
func Stop(ctx context.Context, s *cli.Session, name string) error {
	return (&session{s}).do(ctx, string(pid1.Stop), pid1.Kill{Name: name})
}

// do has PID 1 do op and prints what became of the service.
func (s *session) do(ctx context.Context, op string, k pid1.Kill) error {
	st, err := s.ask(ctx, op, k)
	if err == nil {
		fmt.Fprintln(s.Stdout, s.outcome(st))
	}
	return err
}

// ask has PID 1 do op and waits for its answer. Ctrl-C ends only the waiting.
func (s *session) ask(ctx context.Context, op string, k pid1.Kill) (pid1.ServiceStatus, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	waited := s.Waiting(doing(op) + " " + screen.Escape(k.Name))
	st, err := s.order(ctx, op, k)
	waited()
	err = cli.Silent(err)
	if err != nil && ctx.Err() != nil {
		name := screen.Escape(k.Name)
		return st, cli.Advise(fmt.Errorf("stopped waiting: PID 1 continues with %s %s", op, name),
			"try: osctl status "+name)
	}
	return st, err
}

// order sends one order about a service: a change, or a signal.
func (s *session) order(ctx context.Context, op string, k pid1.Kill) (pid1.ServiceStatus, error) {
	if k.Name == inventory.Manager {
		list, err := s.Services(ctx)
		if err != nil {
			return pid1.ServiceStatus{}, err
		}
		if st := inventory.Named(list, k.Name); st != nil {
			k.Name = st.Name
		}
	}
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
	text := screen.Escape(st.Name) + " is " + s.Paint(look.Colour(st.State), screen.Escape(st.State))
	if st.PID > 0 {
		text += fmt.Sprintf(", pid %d", st.PID)
	}
	return text
}
