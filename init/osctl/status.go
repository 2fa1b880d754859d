package osctl

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"resinos/services/supervise"
)

func status(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	var list []supervise.ServiceStatus
	if err := s.call(ctx, "status", nil, &list); err != nil {
		return err
	}
	if list, err = pick(list, names); err != nil {
		return err
	}
	if *asJSON {
		return s.printJSON(list)
	}
	_, err = io.WriteString(s.Stdout, s.statusTable(list))
	return err
}

// pick keeps the services that were named, or all.
func pick(list []supervise.ServiceStatus, names []string) ([]supervise.ServiceStatus, error) {
	if len(names) == 0 {
		return list, nil
	}
	var picked []supervise.ServiceStatus
	for _, name := range names {
		i := slices.IndexFunc(list, func(st supervise.ServiceStatus) bool { return st.Name == name })
		if i < 0 {
			return nil, &failure{fmt.Errorf("no service %q", name), "try: osctl status"}
		}
		picked = append(picked, list[i])
	}
	return picked, nil
}

func (s *session) statusTable(list []supervise.ServiceStatus) string {
	rows := [][]cell{header("NAME", "STATE", ">PID", ">SINCE", ">RESTARTS", "NOTE")}
	for _, st := range list {
		pid := "-"
		if st.PID > 0 {
			pid = strconv.Itoa(st.PID)
		}
		since := s.now() - time.Duration(st.Since*float64(time.Second))
		rows = append(rows, []cell{
			{text: escape(st.Name)},
			{text: escape(st.State), colour: stateColour(st.State)},
			{text: pid, right: true},
			{text: ago(since), right: true},
			{text: strconv.Itoa(st.Restarts), right: true},
			{text: escape(note(st)), colour: dim},
		})
	}
	return s.table(rows)
}

func stateColour(state string) colour {
	switch state {
	case "up":
		return green
	case "failed":
		return red
	case "backoff", "waiting", "starting", "killing":
		return yellow
	}
	return plain
}

// note is the one thing most worth knowing of a service: why it is not up, what it says, how it ended before.
func note(st supervise.ServiceStatus) string {
	var text string
	switch {
	case st.Reason != "":
		text = st.Reason
	case st.Text != "":
		text = st.Text
	case st.LastExit != "" && st.State != "done":
		text = "before: " + st.LastExit
	}
	if st.RetryIn > 0 {
		text += fmt.Sprintf(" (again in %.1fs)", st.RetryIn)
	}
	return text
}

// printJSON prints v for programs: two blanks of indent, so that people can read it too.
func (s *session) printJSON(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	_, err = s.Stdout.Write(append(text, '\n'))
	return err
}
