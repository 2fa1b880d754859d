package osctl

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/init/osctl/gauge"
	"resinos/init/osctl/inventory"
	"resinos/services/bootreport"
	"resinos/services/cgroup"
	"resinos/services/pid1"
)

func status(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	names, err := parse(flags, args)
	if err != nil {
		return err
	}
	list, err := s.services(ctx)
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
		err = s.printJSON(in.Entries(picked, len(names) == 0))
	case len(names) > 0:
		err = s.details(ctx, list, picked)
	default:
		_, err = io.WriteString(s.Stdout, s.overall(ctx, in))
	}
	if err == nil && len(names) > 0 && slices.ContainsFunc(picked, func(t inventory.Thing) bool { return !t.Up() }) {
		return notUp{}
	}
	return err
}

func (s *session) services(ctx context.Context) ([]pid1.ServiceStatus, error) {
	list, err := s.pid1().Status(ctx)
	return list, silent(err)
}

// pick keeps the services that were named, or all.
func pick(list []pid1.ServiceStatus, names []string) ([]pid1.ServiceStatus, error) {
	if len(names) == 0 {
		return list, nil
	}
	var picked []pid1.ServiceStatus
	for _, name := range names {
		st := inventory.Named(list, name)
		if st == nil {
			return nil, noService(list, name)
		}
		picked = append(picked, *st)
	}
	return picked, nil
}

func noService(list []pid1.ServiceStatus, name string) error {
	var names []string
	for i := range list {
		names = append(names, list[i].Name)
	}
	hint := "try: osctl status"
	if near := nearest(name, names); near != "" {
		hint += " " + escape(near)
	}
	return &failure{fmt.Errorf("no service %q", name), hint}
}

// host is what the head of status says of the device.
type host struct {
	name, version, slot string
	up                  time.Duration
	degraded            []string // steps of the boot
	spaces              []Space
}

func (s *session) host(ctx context.Context) host {
	h := host{name: strings.TrimSpace(s.read("proc/sys/kernel/hostname")), up: s.now()}
	h.version = release(s.read("etc/os-release"))
	h.spaces = s.spaces()
	report, err := s.pid1().Boot(ctx)
	if err != nil {
		return h // the services are what was asked for
	}
	h.slot = report.Slot
	for _, step := range report.Steps {
		if step.Result == bootreport.ResultDegraded || step.Result == bootreport.ResultFatal {
			h.degraded = append(h.degraded, step.Name)
		}
	}
	return h
}

// read is the content of a small file; one that cannot be read is empty.
func (s *session) read(path string) string {
	data, err := readBounded(filepath.Join(s.Root, path), 64<<10)
	if err != nil {
		return ""
	}
	return string(data)
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

// overall is the picture of the whole device.
func (s *session) overall(ctx context.Context, in inventory.Inventory) string {
	usage := func(name string) int64 {
		u, err := gauge.Read(s.group(name))
		if err != nil {
			return -1
		}
		return u.Memory
	}
	h := s.host(ctx)
	return s.head(h, in) + s.statusTable(in.Services, usage) + s.appTable(in) + s.spaceTable(h.spaces) + s.advice(in, h.spaces)
}

// group is the folder of a service's cgroup.
func (s *session) group(name string) string { return filepath.Join(s.Root, cgroup.Root, name) }

func (s *session) head(h host, in inventory.Inventory) string {
	words := []string{"up " + ago(h.up)}
	if h.version != "" {
		words = slices.Insert(words, 0, escape(h.version))
	}
	if h.slot != "" {
		words = append(words, "slot "+escape(h.slot))
	}
	name := escape(h.name)
	if name == "" {
		name = "this device"
	}
	return s.lead(bold, name, name+": "+strings.Join(words, ", ")) + "\n" + s.health(h, in) + "\n"
}

// health counts the services and the apps by state, what is wrong first.
func (s *session) health(h host, in inventory.Inventory) string {
	list := in.Services
	counts := map[string]int{}
	bad := len(h.degraded) > 0 || in.Ill() || slices.ContainsFunc(h.spaces, func(p Space) bool { return len(p.Marks) > 0 })
	for i := range list {
		counts[list[i].State]++
		bad = bad || lookOf(&list[i]) == looksWrong
	}
	word, c := "well", green
	if bad {
		word, c = "degraded", red
	}
	var parts []string
	for _, state := range states() {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := fmt.Sprintf("%s: %s, %s", word, count(len(list), "service"), strings.Join(parts, ", "))
	return s.lead(c, word, text+appCounts(in.Apps)) + s.bootHealth(h)
}

// bootHealth tells which steps of the boot went wrong.
func (s *session) bootHealth(h host) string {
	if len(h.degraded) == 0 {
		return ""
	}
	return "\n" + s.lead(red, "boot", "boot: "+escape(strings.Join(h.degraded, ", "))+" went wrong; try: osctl boot")
}

// lead cuts a line to the terminal's width and paints the word that it begins with.
func (s *session) lead(c colour, word, text string) string {
	text = s.fit(text)
	if rest, whole := strings.CutPrefix(text, word); whole {
		return s.paint(c, word) + rest
	}
	return s.paint(c, text)
}

// states are all that a service can be in, in the order in which an owner wants to hear of them.
func states() []string {
	return []string{"failed", "backoff", "waiting", "starting", "leaving", "stopping", "killing", "clearing", "up", "done", "armed", "skipped", "down", "masked"}
}

// advice says what to type next about what is wrong.
func (s *session) advice(in inventory.Inventory, spaces []Space) string {
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
		hints = append(hints, "osctl status "+escape(worst))
	}
	if dataIsFull(spaces) {
		hints = append(hints, "osctl space")
	}
	if len(hints) == 0 {
		return ""
	}
	return s.paint(dim, s.fit("try: "+strings.Join(hints, ", "))) + "\n"
}

// A look is what the mark in front of a service tells.
type look int

const (
	looksUp look = iota
	looksDone
	looksMoving
	looksOff
	looksWrong
)

func lookOf(st *pid1.ServiceStatus) look {
	switch st.State {
	case "up":
		return looksUp
	case "done":
		return looksDone
	case "failed", "backoff":
		return looksWrong
	case "down", "armed", "skipped", "masked", pid1.Removed:
		return looksOff
	}
	return looksMoving
}

func (s *session) mark(st *pid1.ServiceStatus) cell {
	g := s.glyphs()
	sign := [...]string{looksUp: g.up, looksDone: g.done, looksMoving: g.moving, looksOff: g.off, looksWrong: g.wrong}[lookOf(st)]
	return cell{text: sign, colour: stateColour(st.State), tight: true}
}

// The widths below which pid and memory, and then since, make room for the note.
const (
	narrow  = 64
	slender = 48
)

func (s *session) statusTable(list []pid1.ServiceStatus, memory func(name string) int64) string {
	head := append([]cell{{tight: true}}, header("NAME", "STATE", ">SINCE", ">PID", ">MEMORY", "NOTE")...)
	rows := [][]cell{s.slim(head)}
	sections := arrange(list, s.glyphs())
	for _, section := range sections {
		if n := len(section.rows); n > 0 && n < len(list) {
			rows = append(rows, []cell{{text: section.title, colour: dim, wide: true}})
		}
		for _, r := range section.rows {
			rows = append(rows, s.slim(s.statusRow(r, memory)))
		}
	}
	return s.table(rows)
}

// slim leaves out of a row what a small screen has no room for.
func (s *session) slim(row []cell) []cell {
	switch {
	case s.columns <= 0 || s.columns >= narrow:
		return row
	case s.columns < slender:
		return append(row[:3], row[6:]...)
	}
	return append(row[:4], row[6:]...)
}

func (s *session) statusRow(r treeRow, memory func(string) int64) []cell {
	pid := "-"
	if r.st.PID > 0 {
		pid = strconv.Itoa(r.st.PID)
	}
	return []cell{
		s.mark(r.st),
		{text: r.prefix + escape(r.st.Name)},
		{text: escape(r.st.State), colour: stateColour(r.st.State)},
		{text: ago(s.since(r.st.Since)), right: true},
		{text: pid, right: true},
		{text: size(memory(r.st.Name)), right: true},
		{text: inLine(note(r.st)), colour: dim},
	}
}

// since is how long ago a moment was that PID 1 tells in seconds since the kernel started.
func (s *session) since(moment float64) time.Duration {
	return s.now() - time.Duration(moment*float64(time.Second))
}

func stateColour(state string) colour {
	switch state {
	case "up":
		return green
	case "failed":
		return red
	case "backoff", "waiting", "starting", "leaving", "stopping", "killing", "clearing":
		return yellow
	case "down", "masked", "skipped":
		return dim
	}
	return plain
}

// note is what is most worth knowing of a service: why it is not up, what it says, how it ended before.
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
	add(st.NextIn > 0, "next in %s", ago(time.Duration(st.NextIn*float64(time.Second))))
	add(st.Clients > 0, "%s", count(st.Clients, "client"))
	add(st.Health != "" && st.Health != "ok", "health: %s", st.Health)
	add(st.Restarts > 0 && len(st.Demand) == 0, "%s", count(st.Restarts, "restart"))
	add(st.Loading, "reloads")
	add(st.Changed, "file changed: restart it")
	add(st.Removed, "file removed: it is stopped and forgotten")
	return strings.Join(words, "; ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
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
