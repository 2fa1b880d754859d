package osctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"resinos/containers/appstatus"
	"resinos/init/limits"
	"resinos/init/osctl/gauge"
	"resinos/services/logquery"
	"resinos/services/logring"
	"resinos/services/supervise"
)

// managerService is the service that tells of the apps.
const managerService = "manager"

// told is what the manager tells of the apps, and how far it can be relied on.
type told struct {
	list   []appstatus.App
	caveat string // for people: why it may be another way now; empty: it is so
	wrong  bool   // the caveat is a fault
}

// apps reads what the manager has published. That it is down, or hangs, PID 1 tells of the service; here it is said how old the words are.
func (s *session) apps(services []supervise.ServiceStatus) told {
	manager := named(services, managerService)
	if manager == nil {
		return told{} // this image runs no containers
	}
	status, err := appstatus.Read(filepath.Join(s.Root, appstatus.Path))
	state := "the manager is " + manager.State
	switch {
	case errors.Is(err, fs.ErrNotExist) && isUp(manager):
		return told{caveat: "the manager has not told of its apps yet"}
	case errors.Is(err, fs.ErrNotExist):
		return told{caveat: state + ": nothing is known of the apps"}
	case err != nil:
		return told{caveat: err.Error(), wrong: true}
	case !isUp(manager):
		return told{status.Apps, state + ": this is how the apps were " + ago(s.since(status.Written)) + " ago", false}
	case status.Wrong():
		return told{status.Apps, status.Reason + ", since " + ago(s.since(status.Since)), true}
	}
	return told{list: status.Apps}
}

// ill reports whether anything is wrong with an app, or with what is told of them.
func (t told) ill() bool {
	return t.wrong || slices.ContainsFunc(t.list, func(a appstatus.App) bool { return a.Wrong() })
}

// counts is the part of the health line that is about apps, what is wrong first.
func (t told) counts() string {
	if len(t.list) == 0 {
		return ""
	}
	byState, wrong := map[appstatus.State]int{}, 0
	for _, a := range t.list {
		if byState[a.State]++; a.Wrong() {
			wrong++
		}
	}
	text := "; " + count(len(t.list), "app")
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

// entry is one thing in the JSON of status: a service, an app or a container, told apart by kind.
type entry struct {
	Kind string `json:"kind"`
	supervise.ServiceStatus
}

type appEntry struct {
	Kind string `json:"kind"`
	Name string `json:"name"` // of a container: APP/CONTAINER
	appstatus.App
}

type containerEntry struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	App  string `json:"app"`
	appstatus.Container
}

// caveatEntry stands for what is known of the apps only with a caveat.
type caveatEntry struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

// thing is what a name stands for: one of the three.
type thing struct {
	service   *supervise.ServiceStatus
	app       *appstatus.App
	container *appstatus.Container // of app
}

func (t thing) up() bool {
	switch {
	case t.service != nil:
		return isUp(t.service)
	case t.container != nil:
		return t.container.Well()
	}
	return t.app.Well()
}

// entries is the thing in JSON; an app brings its containers along.
func (t thing) entries() []any {
	switch {
	case t.service != nil:
		return []any{entry{"service", *t.service}}
	case t.container != nil:
		return []any{containerEntry{"container", t.app.Name + "/" + t.container.Name, t.app.Name, *t.container}}
	}
	alone := *t.app
	alone.Containers = nil
	list := []any{appEntry{"app", t.app.Name, alone}}
	for i := range t.app.Containers {
		list = append(list, thing{app: t.app, container: &t.app.Containers[i]}.entries()...)
	}
	return list
}

// entries is what was picked in JSON. With everything comes the caveat, if there is one.
func (t told) entries(picked []thing, all bool) []any {
	list := []any{}
	for _, one := range picked {
		list = append(list, one.entries()...)
	}
	if all && t.caveat != "" {
		list = append(list, caveatEntry{"apps", "apps", string(appstatus.Unknown), t.caveat})
	}
	return list
}

// find is what the names stand for, or everything there is. A name may be a service's and an app's; both are meant then.
func (t told) find(services []supervise.ServiceStatus, names []string) ([]thing, error) {
	var found []thing
	if len(names) == 0 {
		for i := range services {
			found = append(found, thing{service: &services[i]})
		}
		for i := range t.list {
			found = append(found, thing{app: &t.list[i]})
		}
	}
	for _, name := range names {
		before := len(found)
		if st := named(services, name); st != nil {
			found = append(found, thing{service: st})
		}
		found = append(found, t.named(name)...)
		if len(found) == before {
			return nil, t.nothing(services, name)
		}
	}
	return found, nil
}

// named finds an app by its name, and a container by APP/CONTAINER or the name that it has in the log.
func (t told) named(name string) []thing {
	for i := range t.list {
		a := &t.list[i]
		if a.Name == name {
			return []thing{{app: a}}
		}
		for j := range a.Containers {
			if c := &a.Containers[j]; a.Name+"/"+c.Name == name || c.ID == name {
				return []thing{{app: a, container: c}}
			}
		}
	}
	return nil
}

func (t told) nothing(services []supervise.ServiceStatus, name string) error {
	var names []string
	for i := range services {
		names = append(names, services[i].Name)
	}
	for _, a := range t.list {
		names = append(names, a.Name)
		for _, c := range a.Containers {
			names = append(names, a.Name+"/"+c.Name)
		}
	}
	hint := "try: osctl status"
	if near := nearest(name, names); near != "" {
		hint += " " + escape(near)
	}
	err := fmt.Errorf("no service and no app %q", name)
	if t.caveat != "" {
		err = fmt.Errorf("%w; %s", err, escape(t.caveat))
	}
	return &failure{err, hint}
}

// appTable is a section of status; it is empty where there is nothing to tell.
func (s *session) appTable(t told) string {
	text := ""
	if t.caveat != "" {
		c := yellow
		if t.wrong {
			c = red
		}
		text = s.lead(c, "apps", "apps: "+escape(t.caveat)) + "\n"
	}
	if len(t.list) == 0 {
		return text
	}
	list := slices.Clone(t.list)
	slices.SortStableFunc(list, func(a, b appstatus.App) int { return rankOf(&a) - rankOf(&b) })
	rows := [][]cell{s.slim(append([]cell{{tight: true}}, header("APP", "STATE", ">SINCE", ">RESTARTS", ">MEMORY", "NOTE")...))}
	g := s.glyphs()
	for i := range list {
		a := &list[i]
		prefix := a.Name + "/"
		if own := len(a.Containers) != 1; own || a.State != a.Containers[0].State {
			note := ""
			if len(a.Containers) == 0 || a.Cause == appstatus.NotUnderstood {
				note = s.wrong(a.Trouble)
			}
			rows = append(rows, s.appRow(a.Name, a.State, a.Wrong(), a.Entered, a.Restarts, -1, note))
			prefix = ""
		}
		for j := range a.Containers {
			c := &a.Containers[j]
			name := prefix + c.Name
			if prefix == "" {
				branch := g.branch
				if j == len(a.Containers)-1 {
					branch = g.corner
				}
				name = branch + c.Name
			}
			rows = append(rows, s.appRow(name, c.State, c.Wrong(), c.Entered, c.Restarts, s.containerUsage(c).Memory, s.containerNote(c)))
		}
	}
	return text + s.table(rows)
}

func rankOf(a *appstatus.App) int {
	if a.Wrong() {
		return 0
	}
	return 1
}

func (s *session) appRow(name string, state appstatus.State, wrong bool, since float64, restarts int, memory int64, note string) []cell {
	times := "-"
	if restarts > 0 {
		times = strconv.Itoa(restarts)
	}
	mark, c := s.appMark(state, wrong)
	return s.slim([]cell{
		{text: mark, colour: c, tight: true}, {text: escape(name)}, {text: escape(string(state)), colour: c},
		{text: ago(s.since(since)), right: true}, {text: times, right: true}, {text: size(memory), right: true}, {text: escape(note), colour: dim},
	})
}

func (s *session) appMark(state appstatus.State, wrong bool) (string, colour) {
	g := s.glyphs()
	switch {
	case wrong || state == appstatus.GivenUp:
		return g.wrong, red
	case state == appstatus.Up:
		return g.up, green
	case state == appstatus.Done:
		return g.done, plain
	}
	return g.moving, yellow
}

// wrong is what is wrong and since when.
func (s *session) wrong(t appstatus.Trouble) string {
	if !t.Wrong() {
		return ""
	}
	return t.Reason + "; wrong for " + ago(s.since(t.Since))
}

func (s *session) containerNote(c *appstatus.Container) string {
	var words []string
	switch {
	case c.Wrong():
		words = append(words, s.wrong(c.Trouble))
	case c.LastExit != "" && c.State != appstatus.Done:
		words = append(words, "before: "+c.LastExit)
	}
	if c.Kills > 0 && c.State == appstatus.Up {
		words = append(words, count(c.Kills, "kill")+" for want of memory")
	}
	if c.Health != "" && c.Health != "ok" {
		words = append(words, "health: "+c.Health)
	}
	return strings.Join(words, "; ")
}

// containerGroup is the directory of a container's cgroup.
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
func (s *session) appDetails(ctx context.Context, t thing) string {
	if t.container != nil {
		return s.containerText(ctx, t)
	}
	a := t.app
	mark, c := s.appMark(a.State, a.Wrong())
	rows := [][]cell{pair("state", string(a.State)+" since "+ago(s.since(a.Entered)), c)}
	if a.Wrong() {
		rows = append(rows, pair("wrong", s.wrong(a.Trouble), red))
	}
	if a.Restarts > 0 {
		rows = append(rows, pair("restarts", strconv.Itoa(a.Restarts), plain))
	}
	text := s.lead(c, mark, mark+" "+escape(a.Name)+": an app with "+count(len(a.Containers), "container")) + "\n" + s.table(rows)
	for i := range a.Containers {
		text += "\n" + s.containerText(ctx, thing{app: a, container: &a.Containers[i]})
	}
	if len(a.Containers) == 0 {
		text += s.paint(dim, s.fit("try: osctl logs -u manager")) + "\n"
	}
	return text
}

func (s *session) containerText(ctx context.Context, t thing) string {
	c := t.container
	mark, paint := s.appMark(c.State, c.Wrong())
	var rows [][]cell
	add := func(label, value string, c colour) {
		if value != "" {
			rows = append(rows, pair(label, value, c))
		}
	}
	add("state", string(c.State)+" since "+ago(s.since(c.Entered)), paint)
	add("wrong", s.wrong(c.Trouble), red)
	add("health", c.Health, plain)
	add("restarts", fmt.Sprintf("%d (restart: %s)", c.Restarts, c.Policy), plain)
	if c.LastExit != "" {
		add("last exit", c.LastExit+", "+ago(s.since(c.LastAt))+" ago", plain)
	}
	add("image", c.Image, plain)
	add("uses", usageText(s.containerUsage(c)), plain)
	for i, line := range processTree(gauge.Processes(s.containerGroup(c), filepath.Join(s.Root, "proc")), s.glyphs()) {
		add([]string{"processes", ""}[min(i, 1)], line, plain)
	}
	text := s.lead(paint, mark, mark+" "+escape(t.app.Name+"/"+c.Name)) + "\n" + s.table(rows)
	var lines []logring.Entry
	err := logquery.Query(ctx, s.Log, logquery.Filter{Names: []string{c.ID}, Last: lastLines}, func(e logring.Entry) error {
		lines = append(lines, e)
		return nil
	})
	return text + s.lastWords(c.ID, lines, err)
}
