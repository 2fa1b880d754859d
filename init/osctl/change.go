package osctl

import (
	"context"
	"flag"
	"fmt"

	"resinos/services/supervise"
)

// target names a service to PID 1.
type target struct {
	Name   string `json:"name"`
	Signal string `json:"signal,omitempty"`
}

// change makes the command for start, stop and restart.
func change(op string) func(context.Context, *session, *flag.FlagSet, []string) error {
	return func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
		return s.each(ctx, op, flags, args, func(t *target) string { return op + " service " + t.Name })
	}
}

func kill(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	signal := flags.String("signal", "KILL", "signal `NAME`: TERM, HUP, KILL, ...")
	return s.each(ctx, "kill", flags, args, func(t *target) string {
		t.Signal = *signal
		return "send SIG" + t.Signal + " to service " + t.Name
	})
}

// each asks PID 1 for op on one named service after the other, and stops at the first that fails.
func (s *session) each(ctx context.Context, op string, flags *flag.FlagSet, args []string, plan func(*target) string) error {
	dry := flags.Bool("n", false, "only say what would be done")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return &usage{op + " needs the name of a service", "try: osctl status"}
	}
	for _, name := range names {
		t := target{Name: name}
		if text := plan(&t); *dry {
			fmt.Fprintln(s.Stdout, text)
			continue
		}
		var st supervise.ServiceStatus
		if err := s.call(ctx, op, t, &st); err != nil {
			return err
		}
		fmt.Fprintln(s.Stdout, s.outcome(st))
	}
	return nil
}

func (s *session) outcome(st supervise.ServiceStatus) string {
	text := escape(st.Name) + " is " + s.paint(stateColour(st.State), escape(st.State))
	if st.PID > 0 {
		text += fmt.Sprintf(", pid %d", st.PID)
	}
	return text
}

// power makes the command for reboot and poweroff.
func power(action string) func(context.Context, *session, *flag.FlagSet, []string) error {
	return func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
		dry := flags.Bool("n", false, "only say what would be done")
		rest, err := parse(flags, args)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			return &usage{fmt.Sprintf("%s takes no argument %q", action, rest[0]), "try: osctl " + action}
		}
		if *dry {
			fmt.Fprintf(s.Stdout, "stop all services, detach all file systems, %s\n", action)
			return nil
		}
		return s.call(ctx, "power", map[string]string{"action": action}, nil)
	}
}
