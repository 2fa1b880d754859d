// Package inventory lists everything on a device that has a status: services, as PID 1 reports them, apps and their
// containers, as the manager reports them. It finds which of them a name means. It prints nothing. Read Inventory
// first.
package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"resinos/containers/appstatus"
	"resinos/services/pid1"
	"resinos/services/spec"
)

// Manager is what people call the part of the service containerd that runs the apps, and reports them.
const (
	Manager = "manager"
	engine  = "containerd"
)

// Inventory is everything that has a status.
type Inventory struct {
	Services []pid1.ServiceStatus
	Apps     []appstatus.App
	Caveat   Caveat // of the apps
}

// Caveat says why the report of the apps may be wrong or old. The zero Caveat means that it is right.
type Caveat struct {
	Text string
	// seconds since the kernel started: when the fault began, or the time of the manager's report; 0: not known
	Since float64
	Wrong bool // it is a fault; false: a person stopped the manager
}

// Read adds the apps, which the manager has published below root, to the services. PID 1 reports that its service is
// down or hangs; the Caveat says how old its report is.
func Read(root string, services []pid1.ServiceStatus) Inventory {
	in := Inventory{Services: services}
	manager := Named(services, Manager)
	if manager == nil {
		return in // this image runs no containers
	}
	status, err := appstatus.Read(filepath.Join(root, appstatus.Path))
	in.Apps = status.Apps
	state := "the manager is " + manager.State
	switch {
	case errors.Is(err, fs.ErrNotExist) && IsUp(manager):
		in.Caveat = Caveat{Text: "the manager has not reported its apps yet"}
	case errors.Is(err, fs.ErrNotExist):
		in.Caveat = Caveat{Text: state + ": nothing is known of the apps"}
	case err != nil:
		in.Caveat = Caveat{Text: err.Error(), Wrong: true}
	case !IsUp(manager):
		in.Caveat = Caveat{Text: state, Since: status.Written}
	case status.Wrong():
		in.Caveat = Caveat{Text: status.Reason, Since: status.Since, Wrong: true}
	}
	return in
}

// Named finds a service; nil if there is none. Manager is that which the manager is part of.
func Named(services []pid1.ServiceStatus, name string) *pid1.ServiceStatus {
	for i := range services {
		if services[i].Name == name {
			return &services[i]
		}
	}
	if name == Manager {
		return Named(services, engine)
	}
	return nil
}

// IsUp reports whether a service is up; a oneshot that is done counts as up.
func IsUp(st *pid1.ServiceStatus) bool {
	return st.State == "up" || st.State == "done" && st.Type == string(spec.Oneshot)
}

// Ill reports whether anything is wrong with an app, or with the report of the apps.
func (in Inventory) Ill() bool {
	return in.Caveat.Wrong || slices.ContainsFunc(in.Apps, func(a appstatus.App) bool { return a.Wrong() })
}

// entry is one entry in the JSON of status: a service, an app or a container, as kind says.
type entry struct {
	Kind string `json:"kind"`
	pid1.ServiceStatus
}

type appEntry struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	appstatus.App
}

type containerEntry struct {
	Kind string `json:"kind"`
	Name string `json:"name"` // APP.SERVICE
	App  string `json:"app"`
	appstatus.Container
}

// caveatEntry is the Caveat in the JSON of status.
type caveatEntry struct {
	Kind   string  `json:"kind"`
	Name   string  `json:"name"`
	State  string  `json:"state"`
	Reason string  `json:"reason"`
	Since  float64 `json:"since,omitempty"` // as Caveat.Since
}

// Thing is what a name means: a service, an app or a container.
type Thing struct {
	Service   *pid1.ServiceStatus
	App       *appstatus.App
	Container *appstatus.Container // of App
}

// Up reports whether it does what it is meant to do.
func (t Thing) Up() bool {
	switch {
	case t.Service != nil:
		return IsUp(t.Service)
	case t.Container != nil:
		return t.Container.Well()
	}
	return t.App.Well()
}

// entries returns the thing in JSON; an app with its containers.
func (t Thing) entries() []any {
	switch {
	case t.Service != nil:
		return []any{entry{"service", *t.Service}}
	case t.Container != nil:
		return []any{containerEntry{"container", t.Container.ID, t.App.Name, *t.Container}}
	}
	alone := *t.App
	alone.Containers = nil
	list := []any{appEntry{"app", t.App.Name, alone}}
	for i := range t.App.Containers {
		list = append(list, Thing{App: t.App, Container: &t.App.Containers[i]}.entries()...)
	}
	return list
}

// Entries returns things as JSON shows them, with the caveat if the list has everything.
func (in Inventory) Entries(picked []Thing, all bool) []any {
	list := []any{}
	for _, one := range picked {
		list = append(list, one.entries()...)
	}
	if all && in.Caveat.Text != "" {
		list = append(list, caveatEntry{"apps", "apps", string(appstatus.Unknown), in.Caveat.Text, in.Caveat.Since})
	}
	return list
}

// Find returns the things with these names, or everything without names. If a service and an app have the same name, it
// returns both. The error is an Unknown for the first name that is not found.
func (in Inventory) Find(names []string) ([]Thing, error) {
	var found []Thing
	if len(names) == 0 {
		for i := range in.Services {
			found = append(found, Thing{Service: &in.Services[i]})
		}
		for i := range in.Apps {
			found = append(found, Thing{App: &in.Apps[i]})
		}
	}
	for _, name := range names {
		before := len(found)
		if st := Named(in.Services, name); st != nil {
			found = append(found, Thing{Service: st})
		}
		found = append(found, in.named(name)...)
		if len(found) == before {
			return nil, Unknown(name)
		}
	}
	return found, nil
}

// Unknown is a name that nothing has.
type Unknown string

func (u Unknown) Error() string { return fmt.Sprintf("no service and no app %q", string(u)) }

// named finds an app by its name, and a container by APP.SERVICE or by APP/SERVICE.
func (in Inventory) named(name string) []Thing {
	for i := range in.Apps {
		a := &in.Apps[i]
		if a.Name == name {
			return []Thing{{App: a}}
		}
		for j := range a.Containers {
			if c := &a.Containers[j]; a.Name+"/"+c.Name == name || c.ID == name {
				return []Thing{{App: a, Container: c}}
			}
		}
	}
	return nil
}

// Names returns all names that Find knows.
func (in Inventory) Names() []string {
	var names []string
	for i := range in.Services {
		names = append(names, in.Services[i].Name)
	}
	for _, a := range in.Apps {
		names = append(names, a.Name)
		for _, c := range a.Containers {
			names = append(names, c.ID)
		}
	}
	return names
}
