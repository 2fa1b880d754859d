package appcommand

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/control"
)

func ps(_ context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	all := flags.Bool("a", false, "lists those that do not run too")
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	switch {
	case err != nil:
		return err
	case len(names) > 1:
		return cli.Misuse("ps takes one app, or none for all", "try: osctl ps "+names[0])
	}
	status, err := published(s)
	if err != nil {
		return err
	}
	list, err := pick(status, strings.Join(names, ""))
	if err != nil {
		return err
	}
	if !*all {
		list = slices.DeleteFunc(list, func(c appstatus.Container) bool {
			return c.State != appstatus.Up && c.State != appstatus.Stopping
		})
	}
	if *asJSON {
		return s.PrintJSON(list)
	}
	rows := [][]screen.Cell{screen.Header("NAME", "IMAGE", "STATUS", "PORTS")}
	for i := range list {
		c := &list[i]
		rows = append(rows, []screen.Cell{{Text: screen.Escape(c.ID)}, {Text: screen.Escape(Short(c.Image))},
			{Text: state(s, c), Colour: colour(c.State, c.Wrong())}, {Text: strings.Join(c.Ports, ", ")}})
	}
	_, err = fmt.Fprint(s.Stdout, s.Table(rows))
	return err
}

// Short is the name of an image as people write it.
func Short(image string) string {
	image = strings.TrimPrefix(image, "docker.io/")
	return strings.TrimPrefix(image, "library/")
}

// state is how a container is, in a line.
func state(s *cli.Session, c *appstatus.Container) string {
	text := string(c.State) + " " + screen.Ago(s.Since(c.Entered))
	if c.State == appstatus.Backoff {
		text = "restarting" + text[len("backoff"):]
	}
	if c.Health != "" {
		text += " (" + c.Health + ")"
	}
	switch {
	case c.Wrong():
		text += ": " + c.Reason
	case c.Waits != "":
		text += ", " + c.Waits
	case c.LastExit != "" && c.State != appstatus.Up:
		text += ", " + c.LastExit
	}
	if c.Pull != nil {
		text += ", " + c.Pull.String()
	}
	if c.Restarts > 0 && c.State == appstatus.Up {
		text += ", " + strconv.Itoa(c.Restarts) + " restarts"
	}
	return screen.InLine(text)
}

func colour(state appstatus.State, wrong bool) screen.Colour {
	switch {
	case wrong || state == appstatus.GivenUp:
		return screen.Red
	case state == appstatus.Up:
		return screen.Green
	case state == appstatus.Done, state == appstatus.Halted, state == appstatus.Down:
		return screen.Plain
	}
	return screen.Yellow
}

// port lists published ports.
func port(_ context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	name, err := one(flags, args, "an app or a container")
	if err != nil {
		return err
	}
	status, err := published(s)
	if err != nil {
		return err
	}
	list, err := pick(status, name)
	if err != nil {
		return err
	}
	ports := map[string][]string{}
	for _, c := range list {
		ports[c.ID] = append([]string{}, c.Ports...)
		if !*asJSON {
			for _, p := range c.Ports {
				fmt.Fprintln(s.Stdout, screen.Escape(c.ID), p)
			}
		}
	}
	if *asJSON {
		return s.PrintJSON(ports)
	}
	return nil
}

func inspect(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	name, err := one(flags, args, "an app or a container")
	if err != nil {
		return err
	}
	list, err := Client(s).Inspect(ctx, appcontrol.Parse(name))
	if err != nil {
		return Unreachable(err)
	}
	return s.PrintJSON(list)
}

func events(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	stop := flags.Bool("no-follow", false, "shows the last events and ends")
	asJSON := flags.Bool("json", false, "prints JSON, one event on each line")
	names, err := cli.Parse(flags, args)
	switch {
	case err != nil:
		return err
	case len(names) > 1:
		return cli.Misuse("events takes one app or container, or none for all", "try: osctl events "+names[0])
	}
	want := appcontrol.Parse(strings.Join(names, ""))
	w := appcontrol.Watch{Now: *stop}
	for {
		list, err := Client(s).Events(ctx, w)
		refused := new(control.Error)
		if err != nil && (w.After == 0 || errors.As(err, &refused)) {
			return Unreachable(err)
		}
		for _, e := range list {
			w.After = e.Seq
			ofApp := want.Service == "" && strings.HasPrefix(e.Container, want.App+".")
			if want.App != "" && e.Container != want.String() && !ofApp {
				continue
			}
			if err := printEvent(s, e, *asJSON); err != nil {
				return err
			}
		}
		if *stop {
			return nil
		}
		if err != nil { // a manager that is started again
			select {
			case <-ctx.Done():
				return Unreachable(err)
			case <-time.After(time.Second):
			}
		}
	}
}
