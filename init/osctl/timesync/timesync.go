// Package timesync owns the command time of osctl: whether the clock is synchronised, how wrong it can be, and the
// state of each time server. It reads the file that netd writes and asks no process, so that it answers without netd
// too. Read Show first.
package timesync

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/net/clockstatus"
)

// timed is what the time command prints as JSON: the status of the clock, and what only the moment of asking can add.
type timed struct {
	Now     time.Time `json:"now"`
	Uptime  float64   `json:"uptime"`  // seconds since the kernel started: the moments in the rest are on this scale
	Running bool      `json:"running"` // somebody keeps the clock right
	clockstatus.Status
}

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Show runs the command time.
func Show(_ context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	status, err := clockstatus.Load(filepath.Join(s.Root, clockstatus.Path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Advise(fmt.Errorf("read the status of the clock: %w", err), "try: osctl status netd")
	case errors.Is(err, fs.ErrPermission):
		return cli.Advise(err, "log in as root")
	case err != nil:
		return cli.Advise(err, "try: osctl restart netd")
	}
	t := timed{Now: s.Wall().UTC(), Uptime: s.Now().Seconds(), Running: status.Running(s.Root), Status: status}
	if t.Servers == nil {
		t.Servers = []clockstatus.Server{}
	}
	if *asJSON {
		return s.PrintJSON(t)
	}
	_, err = io.WriteString(s.Stdout, s.timeText(t))
	return err
}

func (s *session) timeText(t timed) string {
	rows := [][]screen.Cell{screen.Pair("time", t.Now.Format("2006-01-02 15:04:05 MST"), screen.Plain)}
	rows = append(rows, s.syncRows(t)...)
	if step := t.LastStep; step != nil {
		text := fmt.Sprintf("%s, %s ago: %s", signedSpan(step.By), s.ago(step.At), step.Why)
		rows = append(rows, screen.Pair("last step", text, screen.Plain))
	}
	if t.Running && t.Next > t.Uptime {
		next := screen.Ago(time.Duration((t.Next - t.Uptime) * float64(time.Second)))
		rows = append(rows, screen.Pair("next", "netd asks the servers in "+next, screen.Plain))
	}
	out := s.Table(rows)
	if len(t.Servers) == 0 {
		return out
	}
	table := [][]screen.Cell{screen.Header("SERVER", "FROM", "STATE", ">STRATUM", ">OFFSET", ">DELAY", ">HEARD", "WHY")}
	for _, one := range t.Servers {
		table = append(table, s.serverRow(one))
	}
	return out + "\n" + s.Table(table)
}

// syncRows say whether the clock is right, and how much.
func (s *session) syncRows(t timed) [][]screen.Cell {
	var rows [][]screen.Cell
	if !t.Running {
		who := "netd, which keeps the clock, has not started yet"
		if t.PID != 0 {
			who = "netd, which keeps the clock, does not run; the rest is its last report"
		}
		rows = append(rows, screen.Pair("clock", who, screen.Red))
	}
	if !t.Synchronised {
		text := "no"
		if t.Heard > 0 {
			text += ", since " + s.ago(t.Since)
		}
		if t.Trouble != "" {
			text += ": " + t.Trouble
		}
		rows = append(rows,
			screen.Pair("synchronised", text, screen.Yellow), screen.Pair("comes from", origins(t.Status),
				screen.Plain))
	} else {
		text := fmt.Sprintf("for %s, by %s", s.ago(t.Since), t.By)
		if t.Address != "" && t.Address != t.By {
			text += " (" + t.Address + ")"
		}
		rows = append(rows, screen.Pair("synchronised", fmt.Sprintf("%s, stratum %d", text, t.Stratum), screen.Green))
		if t.Trouble != "" {
			rows = append(rows, screen.Pair("but", t.Trouble, screen.Yellow))
		}
	}
	switch {
	case t.Heard > 0 && t.Origin == clockstatus.FromHand: // how far off it was before says nothing any more
		text := s.ago(t.Heard) + " ago, before it was set; the oscillator is " + tempo(t.PPM)
		rows = append(rows, screen.Pair("heard", text, screen.Plain))
	case t.Heard > 0:
		text := fmt.Sprintf("%s %s ago, at most %s wrong; the oscillator is %s",
			signedSpan(t.Offset), s.ago(t.Heard), shortSpan(t.Bound), tempo(t.PPM))
		rows = append(rows, screen.Pair("offset", text, screen.Plain))
	}
	return rows
}

// ago says how long ago a moment was, in seconds since the kernel started.
func (s *session) ago(at float64) string {
	return screen.Ago(s.Since(at))
}

func (s *session) serverRow(one clockstatus.Server) []screen.Cell {
	c := screen.Yellow
	switch one.State {
	case clockstatus.Used:
		c = screen.Green
	case clockstatus.FalseTicker:
		c = screen.Red
	case clockstatus.Unasked, clockstatus.Duplicate:
		c = screen.Dim
	}
	name := one.Name
	if one.Address != "" && one.Address != one.Name {
		name += " (" + one.Address + ")"
	}
	row := []screen.Cell{
		{Text: screen.Escape(name)}, {Text: screen.Escape(one.From), Colour: screen.Dim},
		{Text: screen.Escape(string(one.State)), Colour: c}, {}, {}, {}, {}, {Text: screen.InLine(one.Why)},
	}
	if one.Heard > 0 {
		row[3] = screen.Cell{Text: fmt.Sprint(one.Stratum), Right: true}
		row[4] = screen.Cell{Text: signedSpan(one.Offset), Right: true}
		row[5] = screen.Cell{Text: shortSpan(one.Delay), Right: true}
		row[6] = screen.Cell{Text: s.ago(one.Heard) + " ago", Right: true}
	}
	return row
}

// origins says where a time comes from that no server has confirmed.
func origins(t clockstatus.Status) string {
	text := map[clockstatus.Origin]string{
		clockstatus.FromBuild: "the build time of the image",
		clockstatus.FromSaved: "the time saved before the last boot ended",
		clockstatus.FromRTC:   "the hardware clock",
		clockstatus.FromClock: "the hardware clock, by the kernel",
		clockstatus.FromNTP:   "servers that answered earlier",
		clockstatus.FromHand:  "a person or program that set it",
	}[t.Origin]
	if text == "" {
		return "an unknown source"
	}
	return text
}

func tempo(ppm float64) string {
	if ppm < 0 {
		return fmt.Sprintf("%.1f ppm fast", -ppm)
	}
	return fmt.Sprintf("%.1f ppm slow", ppm)
}

func signedSpan(seconds float64) string {
	if seconds < 0 {
		return "-" + shortSpan(-seconds)
	}
	return "+" + shortSpan(seconds)
}

// shortSpan says a span with about three digits.
func shortSpan(seconds float64) string {
	switch {
	case seconds >= 60:
		return strings.ReplaceAll(screen.Ago(time.Duration(min(seconds, 9e9)*float64(time.Second))), " ", "")
	case seconds >= 1:
		return fmt.Sprintf("%.2fs", seconds)
	}
	return fmt.Sprintf("%.1fms", seconds*1000)
}
