package status

import (
	"context"
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
	"resinos/init/osctl/logs"
	"resinos/init/osctl/look"
	"resinos/init/osctl/screen"
	"resinos/services/log/entry"
	"resinos/services/log/query"
	"resinos/services/pid1"
)

// lastLines is how many lines of a service's log its status shows.
const lastLines = 10

// details prints everything about each of the chosen services, apps and containers.
func (s *session) details(ctx context.Context, list []pid1.ServiceStatus, picked []inventory.Thing) error {
	for i, t := range picked {
		if i > 0 {
			fmt.Fprintln(s.Stdout)
		}
		text := ""
		if t.Service != nil {
			d := detail{ServiceStatus: t.Service, list: list}
			s.inspect(ctx, &d)
			text = s.detailText(&d)
		} else {
			text = s.appDetails(ctx, t)
		}
		if _, err := io.WriteString(s.Stdout, text); err != nil {
			return err
		}
	}
	return nil
}

// detail is all that is known of one service.
type detail struct {
	*pid1.ServiceStatus
	list      []pid1.ServiceStatus // all services
	command   []string
	files     []string
	usage     gauge.Usage
	processes []gauge.Process
	log       []entry.Entry
	logError  error
}

// inspect asks PID 1, logd and the kernel about the service. What they do not answer is left out.
func (s *session) inspect(ctx context.Context, d *detail) {
	shown, err := s.Client().Show(ctx, d.Name)
	if err == nil {
		d.command = shown.Spec.Command
	}
	for _, dir := range cli.ServiceDirs() {
		path := filepath.Join(dir, d.Name+".toml")
		if s.Read(path) == "" {
			continue
		}
		if used := shown.Spec.Files; len(used) > 0 && !slices.Contains(used, path) {
			path += " (not in force: osctl show " + d.Name + ")"
		}
		d.files = append(d.files, path)
	}
	d.usage = gauge.Usage{Memory: -1, Swap: -1, Tasks: -1, CPU: -1}
	if u, err := gauge.Read(s.group(d.Name)); err == nil {
		d.usage = u
	}
	d.processes = gauge.Processes(s.group(d.Name), filepath.Join(s.Root, "proc"))
	filter := query.Filter{Names: []string{d.Name}, Last: lastLines}
	d.logError = query.Query(ctx, s.Log, filter, func(e entry.Entry) error {
		d.log = append(d.log, e)
		return nil
	})
}

// detailText prints a service as names and values, its processes as a tree, and the end of its log.
func (s *session) detailText(d *detail) string {
	var b strings.Builder
	mark := look.Sign(&s.Screen, d.ServiceStatus)
	head := mark.Text + " " + screen.Escape(d.Name)
	if d.Description != "" {
		head += ": " + screen.Escape(d.Description)
	}
	b.WriteString(s.Lead(mark.Colour, mark.Text, head) + "\n")
	rows := append(s.stateRows(d), s.tieRows(d)...)
	b.WriteString(s.Table(rows))
	b.WriteString(s.lastWords(d.Name, d.log, d.logError))
	if next := remedy(d.ServiceStatus); next != "" {
		b.WriteString(s.Paint(screen.Dim, s.Fit("try: "+next)) + "\n")
	}
	return b.String()
}

// lastWords returns the end of a log, and how to see more of it.
func (s *session) lastWords(name string, log []entry.Entry, fault error) string {
	var b strings.Builder
	if len(log) > 0 {
		b.WriteByte('\n')
	}
	for i := range log {
		b.WriteString(s.logLine(&log[i]))
	}
	switch {
	case fault != nil:
		why := cli.Unreachable(fault, "logd", "").Error()
		b.WriteString(s.Paint(screen.Dim, s.Fit("no log lines: "+screen.Escape(why))) + "\n")
	case len(log) > 0:
		b.WriteString(s.Paint(screen.Dim, s.Fit("more: osctl logs -u "+screen.Escape(name))) + "\n")
	}
	return b.String()
}

// logLine returns an entry on one line of the terminal; a line that is cut loses its colours.
func (s *session) logLine(e *entry.Entry) string {
	bare := screen.Screen{Fancy: s.Fancy, Columns: s.Columns}
	line := strings.ReplaceAll(strings.TrimSuffix(logs.Line(&bare, e), "\n"), "\t", " ")
	if cut := bare.Fit(line); cut != line {
		return cut + "\n"
	}
	return logs.Line(&s.Screen, e)
}

func (s *session) stateRows(d *detail) [][]screen.Cell {
	state := d.State + " since " + screen.Ago(s.Since(d.Since))
	if d.PID > 0 {
		state += ", pid " + strconv.Itoa(d.PID)
	}
	var rows [][]screen.Cell
	add := func(label, value string, c screen.Colour) {
		if value != "" {
			rows = append(rows, screen.Pair(label, value, c))
		}
	}
	add("state", state, look.Colour(d.State))
	add("reason", d.Reason, look.Colour(d.State))
	if d.RetryIn > 0 {
		add("again in", fmt.Sprintf("%.1fs", d.RetryIn), screen.Yellow)
	}
	add("says", d.Text, screen.Plain)
	add("health", d.Health, screen.Plain)
	if d.Restarts > 0 {
		text := strconv.Itoa(d.Restarts)
		if d.Failures > 0 {
			text += fmt.Sprintf(", %s in a row", screen.Count(d.Failures, "failure"))
		}
		add("restarts", text, screen.Plain)
	}
	add("last exit", d.LastExit, screen.Plain)
	if d.Ready > d.Began && d.Began > 0 {
		add("took", screen.Span(d.Ready-d.Began)+" to be up", screen.Plain)
	}
	add("uses", usageText(d.usage), screen.Plain)
	add("command", strings.Join(d.command, " "), screen.Plain)
	for i, line := range processTree(d.processes, s.Glyphs()) {
		label := ""
		if i == 0 {
			label = "processes"
		}
		rows = append(rows, screen.Pair(label, line, screen.Plain))
	}
	add("files", strings.Join(d.files, ", "), screen.Plain)
	if d.Changed {
		add("changed", "its file, since it was started", screen.Yellow)
	}
	return rows
}

func usageText(u gauge.Usage) string {
	var words []string
	if u.Memory >= 0 {
		text := "memory " + screen.Size(u.Memory)
		if u.Peak > 0 {
			text += " (peak " + screen.Size(u.Peak) + ")"
		}
		words = append(words, text)
	}
	if u.Swap > 0 {
		words = append(words, "swap "+screen.Size(u.Swap))
	}
	if u.CPU >= 0 {
		words = append(words, "cpu "+screen.Span(u.CPU.Seconds()))
	}
	if u.Tasks >= 0 {
		words = append(words, screen.Count(int(u.Tasks), "task"))
	}
	if u.OOMKills > 0 {
		words = append(words, screen.Count(int(u.OOMKills), "kill")+" for want of memory")
	}
	return strings.Join(words, ", ")
}

// tieRows list the services that this one needs, wants, follows or conflicts with, each with its state.
func (s *session) tieRows(d *detail) [][]screen.Cell {
	needed, wanted, before := dependants(d.list, d.Name)
	var rows [][]screen.Cell
	for _, tie := range []struct {
		label string
		names []string
	}{
		{"needs", d.Needs}, {"wants", d.Wants}, {"after", d.After}, {"conflicts", d.Conflicts},
		{"needed by", needed}, {"wanted by", wanted}, {"before", before},
	} {
		if len(tie.names) > 0 {
			rows = append(rows, screen.Pair(tie.label, s.withStates(d.list, tie.names), screen.Plain))
		}
	}
	if len(d.Demand) > 0 {
		text := strings.Join(d.Demand, ", ")
		if d.NextIn > 0 {
			text += "; next in " + screen.Ago(time.Duration(d.NextIn*float64(time.Second)))
		}
		rows = append(rows, screen.Pair("starts on", text, screen.Plain))
	}
	if d.Clients > 0 || d.Stored > 0 {
		text := screen.Count(d.Clients, "client") + ", " + screen.Count(d.Stored, "stored descriptor")
		rows = append(rows, screen.Pair("holds", text, screen.Plain))
	}
	return rows
}

// dependants returns the services that name this one.
func dependants(list []pid1.ServiceStatus, name string) (needed, wanted, before []string) {
	for i := range list {
		other := &list[i]
		if slices.Contains(other.Needs, name) {
			needed = append(needed, other.Name)
		}
		if slices.Contains(other.Wants, name) {
			wanted = append(wanted, other.Name)
		}
		if slices.Contains(other.After, name) {
			before = append(before, other.Name)
		}
	}
	return needed, wanted, before
}

func (s *session) withStates(list []pid1.ServiceStatus, names []string) string {
	var words []string
	for _, name := range names {
		state := "does not exist"
		if st := inventory.Named(list, name); st != nil {
			state = st.State
		}
		words = append(words, name+" ("+state+")")
	}
	return strings.Join(words, ", ")
}

// processTree prints processes below their parents.
func processTree(list []gauge.Process, g screen.Glyphs) []string {
	inside := map[int]bool{}
	for _, p := range list {
		inside[p.PID] = true
	}
	var lines []string
	var hang func(parent int, prefix string, depth int)
	hang = func(parent int, prefix string, depth int) {
		var children []gauge.Process
		for _, p := range list {
			if p.Parent == parent && p.PID != parent {
				children = append(children, p)
			}
		}
		for i, p := range children {
			branch, bar := g.Branch, g.Bar
			if i == len(children)-1 {
				branch, bar = g.Corner, "  "
			}
			lines = append(lines, fmt.Sprintf("%s%d %s", prefix+branch, p.PID, p.Command))
			if depth < 32 { // limits the indentation of a long chain of forks
				hang(p.PID, prefix+bar, depth+1)
			}
		}
	}
	for _, p := range list {
		if !inside[p.Parent] {
			lines = append(lines, fmt.Sprintf("%d %s", p.PID, p.Command))
			hang(p.PID, "", 0)
		}
	}
	return lines
}

// remedy returns what an owner would most likely type next.
func remedy(st *pid1.ServiceStatus) string {
	switch st.State {
	case "failed", "backoff":
		return "osctl logs -u " + screen.Escape(st.Name) + ", osctl restart " + screen.Escape(st.Name)
	case "masked":
		return "osctl unmask " + screen.Escape(st.Name)
	case "down", "skipped":
		return "osctl start " + screen.Escape(st.Name)
	}
	return ""
}
