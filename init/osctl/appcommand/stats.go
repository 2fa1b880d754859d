package appcommand

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/init/limits"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/screen"
)

// statsEvery is between two rows of figures.
const statsEvery = 2 * time.Second

func printEvent(s *cli.Session, e appcontrol.Event, asJSON bool) error {
	if asJSON {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintln(s.Stdout, string(text))
		}
		return err
	}
	text := e.Time + " " + e.Container + " " + e.What
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	_, err := fmt.Fprintln(s.Stdout, screen.Escape(text))
	return err
}

// usage is what one container uses.
type usage struct {
	Container string  `json:"container"`
	CPU       float64 `json:"cpu_percent"` // of one processor; -1: not known yet
	Memory    int64   `json:"memory"`
	Swap      int64   `json:"swap"`
	Tasks     int64   `json:"tasks"`
	Read      int64   `json:"read"`
	Written   int64   `json:"written"`
}

func stats(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	once := flags.Bool("no-stream", false, "prints the figures of two seconds once")
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	before, at, err := measure(s, names)
	if err != nil {
		return err
	}
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, then, err := measure(s, names)
		if err != nil {
			return err
		}
		if err := printStats(s, rates(before, now, then-at), *asJSON, !*once); err != nil || *once {
			return err
		}
		before, at = now, then
	}
}

// measured is the figures of one container.
type measured struct {
	id string
	gauge.Usage
}

// measure reads the control groups of the containers that run.
func measure(s *cli.Session, names []string) (list []measured, at time.Duration, err error) {
	status, err := published(s)
	if err != nil {
		return nil, 0, err
	}
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		found, err := pick(status, name)
		if err != nil {
			return nil, 0, err
		}
		for _, c := range found {
			if c.State != appstatus.Up && c.State != appstatus.Stopping {
				continue
			}
			u, err := gauge.Read(filepath.Join(s.Root, limits.Group, filepath.Base(c.ID)))
			if err == nil { // else it has just ended
				list = append(list, measured{c.ID, u})
			}
		}
	}
	return list, s.Now(), nil
}

// rates are the figures of now, with what was used since before.
func rates(before, now []measured, took time.Duration) []usage {
	cpu := map[string]int64{}
	for _, m := range before {
		cpu[m.id] = int64(m.CPU)
	}
	list := []usage{}
	for _, m := range now {
		u := usage{Container: m.id, CPU: -1, Memory: m.Memory, Swap: m.Swap, Tasks: m.Tasks,
			Read: m.Usage.Read, Written: m.Written}
		if old, known := cpu[m.id]; known && took > 0 && int64(m.CPU) >= old {
			u.CPU = float64(int64(m.CPU)-old) / float64(took) * 100
		}
		list = append(list, u)
	}
	return list
}

func printStats(s *cli.Session, list []usage, asJSON, again bool) error {
	if asJSON {
		return s.PrintJSON(list)
	}
	rows := [][]screen.Cell{screen.Header("NAME", ">CPU", ">MEMORY", ">SWAP", ">TASKS", ">READ", ">WRITTEN")}
	for _, u := range list {
		cpu := "-"
		if u.CPU >= 0 {
			cpu = fmt.Sprintf("%.1f%%", u.CPU)
		}
		row := []screen.Cell{{Text: screen.Escape(u.Container)}, {Text: cpu, Right: true}}
		sizes := []string{screen.Size(u.Memory), screen.Size(u.Swap), fmt.Sprint(u.Tasks), screen.Size(u.Read),
			screen.Size(u.Written)}
		for _, n := range sizes {
			row = append(row, screen.Cell{Text: n, Right: true})
		}
		rows = append(rows, row)
	}
	text := s.Table(rows)
	if again && s.Terminal {
		text = "\x1b[H\x1b[2J" + text
	}
	_, err := fmt.Fprint(s.Stdout, text)
	return err
}
