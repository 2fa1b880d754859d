// Package status owns the command status of osctl: it shows the state of the whole device, problems first, or
// everything about single services, apps and containers. osctl/inventory finds them by name. The package asks PID 1 and
// logd, reads cgroups, and changes nothing. Read Show first.
package status

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/look"
	"resinos/init/osctl/screen"
	"resinos/init/osctl/storage"
	"resinos/services/bootreport"
	"resinos/services/cgroup"
	"resinos/services/pid1"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Show runs the command status.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	in := inventory.Read(s.Root, list)
	picked, err := s.find(in, names)
	if err != nil {
		return err
	}
	switch {
	case *asJSON:
		err = s.PrintJSON(in.Entries(picked, len(names) == 0))
	case len(names) > 0:
		err = s.details(ctx, list, picked)
	default:
		_, err = io.WriteString(s.Stdout, s.overall(ctx, in))
	}
	if err == nil && len(names) > 0 && slices.ContainsFunc(picked, func(t inventory.Thing) bool { return !t.Up() }) {
		return cli.NotUp{}
	}
	return err
}

// host is the device in the head of status.
type host struct {
	name, version, slot string
	up                  time.Duration
	degraded            []string // steps of the boot
	spaces              []storage.Space
}

func (s *session) host(ctx context.Context) host {
	h := host{name: strings.TrimSpace(s.Read("proc/sys/kernel/hostname")), up: s.Now()}
	h.version = release(s.Read("etc/os-release"))
	h.spaces = storage.Spaces(s.Session)
	report, err := s.Client().Boot(ctx)
	if err != nil {
		return h // the answer is about services; the host is only an addition
	}
	h.slot = report.Slot
	for _, step := range report.Steps {
		if step.Result == bootreport.ResultDegraded || step.Result == bootreport.ResultFatal {
			h.degraded = append(h.degraded, step.Name)
		}
	}
	return h
}

// release finds name and version in an os-release file.
func release(text string) string {
	words := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		words[key] = strings.Trim(value, `"'`)
	}
	return strings.TrimSpace(words["NAME"] + " " + words["VERSION"])
}

// overall returns the status of the whole device.
func (s *session) overall(ctx context.Context, in inventory.Inventory) string {
	usage := func(name string) int64 {
		u, err := gauge.Read(s.group(name))
		if err != nil {
			return -1
		}
		return u.Memory
	}
	h := s.host(ctx)
	return s.head(h, in) + s.statusTable(in.Services, usage) + s.appTable(in) +
		storage.Table(s.Session, h.spaces) + s.advice(in, h.spaces)
}

// group returns the directory of a service's cgroup.
func (s *session) group(name string) string { return filepath.Join(s.Root, cgroup.Root, name) }

func (s *session) head(h host, in inventory.Inventory) string {
	words := []string{"up " + screen.Ago(h.up)}
	if h.version != "" {
		words = slices.Insert(words, 0, screen.Escape(h.version))
	}
	if h.slot != "" {
		words = append(words, "slot "+screen.Escape(h.slot))
	}
	name := screen.Escape(h.name)
	if name == "" {
		name = "this device"
	}
	title := s.Lead(screen.Bold, name, name+": "+strings.Join(words, ", "))
	return title + "\n" + s.health(h, in) + "\n"
}

// health counts the services and the apps by state, faults first.
func (s *session) health(h host, in inventory.Inventory) string {
	list := in.Services
	counts := map[string]int{}
	marked := func(p storage.Space) bool { return len(p.Marks) > 0 }
	bad := len(h.degraded) > 0 || in.Ill() || slices.ContainsFunc(h.spaces, marked)
	for i := range list {
		counts[list[i].State]++
		bad = bad || look.Of(&list[i]) == look.Wrong
	}
	word, c := "well", screen.Green
	if bad {
		word, c = "degraded", screen.Red
	}
	var parts []string
	for _, state := range states() {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := fmt.Sprintf("%s: %s, %s", word, screen.Count(len(list), "service"), strings.Join(parts, ", "))
	return s.Lead(c, word, text+appCounts(in.Apps)) + s.bootHealth(h)
}

// bootHealth says which steps of the boot went wrong.
func (s *session) bootHealth(h host) string {
	if len(h.degraded) == 0 {
		return ""
	}
	return "\n" + s.Lead(screen.Red, "boot",
		"boot: "+screen.Escape(strings.Join(h.degraded, ", "))+" failed; try: osctl boot")
}

// states are all states of a service, in the order in which they are shown.
func states() []string {
	return []string{
		"failed", "backoff", "waiting", "starting", "leaving", "stopping", "killing", "clearing",
		"up", "done", "armed", "skipped", "down", "masked",
	}
}

// advice returns what to type next about a problem.
func (s *session) advice(in inventory.Inventory, spaces []storage.Space) string {
	list := in.Services
	var hints []string
	worst := ""
	for i := range list {
		st := &list[i]
		if st.State == "failed" || st.State == "backoff" && worst == "" {
			worst = st.Name
		}
		if st.State == "failed" {
			break
		}
	}
	for i := range in.Apps {
		if worst == "" && in.Apps[i].Wrong() {
			worst = in.Apps[i].Name
		}
	}
	if worst != "" {
		hints = append(hints, "osctl status "+screen.Escape(worst))
	}
	if storage.DataIsFull(spaces) {
		hints = append(hints, "osctl space")
	}
	if len(hints) == 0 {
		return ""
	}
	return s.Paint(screen.Dim, s.Fit("try: "+strings.Join(hints, ", "))) + "\n"
}

// The widths below which pid and memory, and then since, are left out for the note.
const (
	narrow  = 64
	slender = 48
)

func (s *session) statusTable(list []pid1.ServiceStatus, memory func(name string) int64) string {
	head := append([]screen.Cell{{Tight: true}}, screen.Header("NAME", "STATE", ">SINCE", ">PID", ">MEMORY", "NOTE")...)
	rows := [][]screen.Cell{s.slim(head)}
	sections := arrange(list, s.Glyphs())
	for _, section := range sections {
		if n := len(section.rows); n > 0 && n < len(list) {
			rows = append(rows, []screen.Cell{{Text: section.title, Colour: screen.Dim, Wide: true}})
		}
		for _, r := range section.rows {
			rows = append(rows, s.slim(s.statusRow(r, memory)))
		}
	}
	return s.Table(rows)
}

// slim removes the columns of a row that do not fit a small screen.
func (s *session) slim(row []screen.Cell) []screen.Cell {
	switch {
	case s.Columns <= 0 || s.Columns >= narrow:
		return row
	case s.Columns < slender:
		return append(row[:3], row[6:]...)
	}
	return append(row[:4], row[6:]...)
}

func (s *session) statusRow(r treeRow, memory func(string) int64) []screen.Cell {
	pid := "-"
	if r.st.PID > 0 {
		pid = strconv.Itoa(r.st.PID)
	}
	return []screen.Cell{
		look.Sign(&s.Screen, r.st),
		{Text: r.prefix + screen.Escape(r.st.Name)},
		{Text: screen.Escape(r.st.State), Colour: look.Colour(r.st.State)},
		{Text: screen.Ago(s.Since(r.st.Since)), Right: true},
		{Text: pid, Right: true},
		{Text: screen.Size(memory(r.st.Name)), Right: true},
		{Text: screen.InLine(note(r.st)), Colour: screen.Dim},
	}
}

// note returns the most important fact about a service: why it is not up, its own status text, or how it ended before.
func note(st *pid1.ServiceStatus) string {
	var words []string
	add := func(when bool, format string, args ...any) {
		if when {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	switch {
	case st.Reason != "":
		add(true, "%s", st.Reason)
	case st.Text != "":
		add(true, "%s", st.Text)
	case st.LastExit != "" && st.State != "done" && st.State != "down" && st.State != "armed":
		add(true, "before: %s", st.LastExit)
	}
	add(st.RetryIn > 0, "again in %.1fs", st.RetryIn)
	add(st.State == "armed" && len(st.Demand) > 0, "%s", strings.Join(st.Demand, ", "))
	add(st.NextIn > 0, "next in %s", screen.Ago(time.Duration(st.NextIn*float64(time.Second))))
	add(st.Clients > 0, "%s", screen.Count(st.Clients, "client"))
	add(st.Health != "" && st.Health != "ok", "health: %s", st.Health)
	add(st.Restarts > 0 && len(st.Demand) == 0, "%s", screen.Count(st.Restarts, "restart"))
	add(st.Loading, "reloads")
	add(st.Changed, "file changed: restart it")
	add(st.Removed, "file removed: it stops")
	return strings.Join(words, "; ")
}
