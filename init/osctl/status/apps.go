package status

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"resinos/containers/appstatus"
	"resinos/init/limits"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/services/log/entry"
	"resinos/services/log/query"
)

// appCounts returns the part of the health line about apps, faults first.
func appCounts(apps []appstatus.App) string {
	if len(apps) == 0 {
		return ""
	}
	byState, wrong := map[appstatus.State]int{}, 0
	for _, a := range apps {
		if byState[a.State]++; a.Wrong() {
			wrong++
		}
	}
	text := "; " + screen.Count(len(apps), "app")
	if wrong > 0 {
		text += fmt.Sprintf(", %d wrong", wrong)
	}
	for _, state := range appstatus.States() {
		if n := byState[state]; n > 0 {
			text += fmt.Sprintf(", %d %s", n, state)
		}
	}
	return text
}

// find returns the things with these names. The error for an unknown name suggests a similar one.
func (s *session) find(in inventory.Inventory, names []string) ([]inventory.Thing, error) {
	found, err := in.Find(names)
	var unknown inventory.Unknown
	if !errors.As(err, &unknown) {
		return found, err
	}
	hint := "try: osctl status"
	if near := cli.Nearest(string(unknown), in.Names()); near != "" {
		hint += " " + screen.Escape(near)
	}
	if text := s.caveat(in.Caveat); text != "" {
		err = fmt.Errorf("%w; %s", err, screen.Escape(text))
	}
	return nil, cli.Advise(err, hint)
}

// caveat returns a caveat as text, empty if there is none.
func (s *session) caveat(c inventory.Caveat) string {
	switch {
	case c.Since == 0:
		return c.Text
	case c.Wrong:
		return c.Text + "; wrong for " + screen.Ago(s.Since(c.Since))
	}
	return c.Text + ": the apps are shown as of " + screen.Ago(s.Since(c.Since)) + " ago"
}

// appTable returns the section of status about apps, empty if there are none.
func (s *session) appTable(in inventory.Inventory) string {
	text := ""
	if caveat := s.caveat(in.Caveat); caveat != "" {
		c := screen.Yellow
		if in.Caveat.Wrong {
			c = screen.Red
		}
		text = s.Lead(c, "apps", "apps: "+screen.Escape(caveat)) + "\n"
	}
	if len(in.Apps) == 0 {
		return text
	}
	list := slices.Clone(in.Apps)
	slices.SortStableFunc(list, func(a, b appstatus.App) int { return rankOf(&a) - rankOf(&b) })
	head := screen.Header("APP", "STATE", ">SINCE", ">RESTARTS", ">MEMORY", "NOTE")
	rows := [][]screen.Cell{s.slim(append([]screen.Cell{{Tight: true}}, head...))}
	g := s.Glyphs()
	for i := range list {
		a := &list[i]
		alone := true
		if own := len(a.Containers) != 1; own || a.State != a.Containers[0].State {
			note := ""
			if len(a.Containers) == 0 || a.Cause == appstatus.NotUnderstood {
				note = s.wrong(a.Trouble)
			}
			rows = append(rows, s.appRow(a.Name, a.State, a.Wrong(), a.Entered, a.Restarts, -1, note))
			alone = false
		}
		for j := range a.Containers {
			c := &a.Containers[j]
			name := c.ID
			if !alone {
				branch := g.Branch
				if j == len(a.Containers)-1 {
					branch = g.Corner
				}
				name = branch + c.Name
			}
			memory := s.containerUsage(c).Memory
			rows = append(rows, s.appRow(name, c.State, c.Wrong(), c.Entered, c.Restarts, memory, s.containerNote(c)))
		}
	}
	return text + s.Table(rows)
}

func rankOf(a *appstatus.App) int {
	if a.Wrong() {
		return 0
	}
	return 1
}

func (s *session) appRow(name string, state appstatus.State, wrong bool, since float64, restarts int, memory int64,
	note string) []screen.Cell {
	times := "-"
	if restarts > 0 {
		times = strconv.Itoa(restarts)
	}
	mark, c := s.appMark(state, wrong)
	return s.slim([]screen.Cell{
		{Text: mark, Colour: c, Tight: true}, {Text: screen.Escape(name)},
		{Text: screen.Escape(string(state)), Colour: c}, {Text: screen.Ago(s.Since(since)), Right: true},
		{Text: times, Right: true}, {Text: screen.Size(memory), Right: true},
		{Text: screen.Escape(note), Colour: screen.Dim},
	})
}

func (s *session) appMark(state appstatus.State, wrong bool) (string, screen.Colour) {
	g := s.Glyphs()
	switch {
	case wrong || state == appstatus.GivenUp:
		return g.Wrong, screen.Red
	case state == appstatus.Up:
		return g.Up, screen.Green
	case state == appstatus.Done:
		return g.Done, screen.Plain
	}
	return g.Moving, screen.Yellow
}

// wrong returns the fault and since when it lasts.
func (s *session) wrong(t appstatus.Trouble) string {
	if !t.Wrong() {
		return ""
	}
	return t.Reason + "; wrong for " + screen.Ago(s.Since(t.Since))
}

func (s *session) containerNote(c *appstatus.Container) string {
	var words []string
	switch {
	case c.Wrong():
		words = append(words, s.wrong(c.Trouble))
	case c.LastExit != "" && c.State != appstatus.Done:
		words = append(words, "before: "+c.LastExit)
	}
	if c.Pull != nil {
		words = append(words, c.Pull.String())
	}
	if c.Kills > 0 && c.State == appstatus.Up {
		words = append(words, screen.Count(c.Kills, "kill")+" for want of memory")
	}
	if c.Health != "" && c.Health != "ok" {
		words = append(words, "health: "+c.Health)
	}
	return strings.Join(words, "; ")
}

// containerGroup returns the directory of a container's cgroup.
func (s *session) containerGroup(c *appstatus.Container) string {
	return filepath.Join(s.Root, limits.Group, filepath.Base(c.ID))
}

func (s *session) containerUsage(c *appstatus.Container) gauge.Usage {
	u, err := gauge.Read(s.containerGroup(c))
	if err != nil {
		return gauge.Usage{Memory: -1, Swap: -1, Tasks: -1, CPU: -1}
	}
	return u
}

// appDetails prints all about an app, or about one of its containers.
func (s *session) appDetails(ctx context.Context, t inventory.Thing) string {
	if t.Container != nil {
		return s.containerText(ctx, t)
	}
	a := t.App
	mark, c := s.appMark(a.State, a.Wrong())
	rows := [][]screen.Cell{screen.Pair("state", string(a.State)+" since "+screen.Ago(s.Since(a.Entered)), c)}
	if a.Wrong() {
		rows = append(rows, screen.Pair("wrong", s.wrong(a.Trouble), screen.Red))
	}
	if a.Restarts > 0 {
		rows = append(rows, screen.Pair("restarts", strconv.Itoa(a.Restarts), screen.Plain))
	}
	title := mark + " " + screen.Escape(a.Name) + ": an app with " + screen.Count(len(a.Containers), "container")
	text := s.Lead(c, mark, title) + "\n" + s.Table(rows)
	for i := range a.Containers {
		text += "\n" + s.containerText(ctx, inventory.Thing{App: a, Container: &a.Containers[i]})
	}
	if len(a.Containers) == 0 {
		text += s.Paint(screen.Dim, s.Fit("try: osctl logs -u manager")) + "\n"
	}
	return text
}

func (s *session) containerText(ctx context.Context, t inventory.Thing) string {
	c := t.Container
	mark, paint := s.appMark(c.State, c.Wrong())
	var rows [][]screen.Cell
	add := func(label, value string, c screen.Colour) {
		if value != "" {
			rows = append(rows, screen.Pair(label, value, c))
		}
	}
	add("state", string(c.State)+" since "+screen.Ago(s.Since(c.Entered)), paint)
	add("wrong", s.wrong(c.Trouble), screen.Red)
	add("health", c.Health, screen.Plain)
	restarts := strconv.Itoa(c.Restarts)
	if c.Policy != "" { // it is not known if the app cannot be read
		restarts += " (restart: " + c.Policy + ")"
	}
	add("restarts", restarts, screen.Plain)
	if c.LastExit != "" {
		add("last exit", c.LastExit+", "+screen.Ago(s.Since(c.LastAt))+" ago", screen.Plain)
	}
	add("image", c.Image, screen.Plain)
	add("uses", usageText(s.containerUsage(c)), screen.Plain)
	processes := gauge.Processes(s.containerGroup(c), filepath.Join(s.Root, "proc"))
	for i, line := range processTree(processes, s.Glyphs()) {
		add([]string{"processes", ""}[min(i, 1)], line, screen.Plain)
	}
	text := s.Lead(paint, mark, mark+" "+screen.Escape(c.ID)) + "\n" + s.Table(rows)
	var lines []entry.Entry
	filter := query.Filter{Names: []string{c.ID}, Last: lastLines}
	err := query.Query(ctx, s.Log, filter, func(e entry.Entry) error {
		lines = append(lines, e)
		return nil
	})
	return text + s.lastWords(c.ID, lines, err)
}
