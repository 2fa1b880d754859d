package appcommand

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"resinos/containers/appstatus"
	"resinos/init/limits"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/screen"
)

// program is one process of a container, for programs.
type program struct {
	Container string  `json:"container"`
	PID       int     `json:"pid"` // as the device sees it
	Parent    int     `json:"parent"`
	CPU       float64 `json:"cpu_seconds"`
	Memory    int64   `json:"memory"`
	Command   string  `json:"command"`
}

// Processes makes of top a command that lists the processes of a container if it is given the name of one.
func Processes(all cli.Run) cli.Run {
	return func(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
		var names, rest []string
		for i, arg := range args {
			if strings.HasPrefix(arg, "-") || i > 0 && strings.TrimLeft(args[i-1], "-") == "count" {
				rest = append(rest, arg)
			} else {
				names = append(names, arg)
			}
		}
		if len(names) == 0 {
			return all(ctx, s, flags, args)
		}
		return processes(s, flags, names, rest)
	}
}

func processes(s *cli.Session, flags *flag.FlagSet, names, rest []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, rest); err != nil {
		return err
	}
	status, err := published(s)
	if err != nil {
		return err
	}
	list := []program{}
	for _, name := range names {
		found, err := pick(status, name)
		if err != nil {
			return err
		}
		for _, c := range found {
			if c.State != appstatus.Up && c.State != appstatus.Stopping {
				continue
			}
			group := filepath.Join(s.Root, limits.Group, filepath.Base(c.ID))
			for _, p := range gauge.Processes(group, filepath.Join(s.Root, "proc")) {
				list = append(list, program{c.ID, p.PID, p.Parent, p.CPU.Seconds(), p.Memory, p.Command})
			}
		}
	}
	if *asJSON {
		return s.PrintJSON(list)
	}
	rows := [][]screen.Cell{screen.Header("CONTAINER", ">PID", ">PARENT", ">CPU", ">MEMORY", "COMMAND")}
	for _, p := range list {
		rows = append(rows, []screen.Cell{{Text: screen.Escape(p.Container)},
			{Text: strconv.Itoa(p.PID), Right: true}, {Text: strconv.Itoa(p.Parent), Right: true},
			{Text: screen.Ago(time.Duration(p.CPU * float64(time.Second))), Right: true},
			{Text: screen.Size(p.Memory), Right: true}, {Text: screen.InLine(p.Command)}})
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(s.Stderr, "no processes: it does not run")
		return err
	}
	_, err = fmt.Fprint(s.Stdout, s.Table(rows))
	return err
}
