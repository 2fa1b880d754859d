// Package confirm decides the end of a trial: it checks repeatedly whether the device is as well as before the update,
// and then confirms the slot; if the device is not well in time, it leaves the slot. It decides nothing about variables
// and record (bsp/update does) and installs nothing. Read Config, then Run.
package confirm

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/services/pid1"
)

// Essential are the services without which a device is of no use. One that its owner masked is not waited for.
var Essential = []string{"logd", "devd", "netd", "containerd"}

// Look is what the device looks like at one moment.
type Look struct {
	PID1     error // why PID 1 does not answer
	Services []pid1.ServiceStatus
	Apps     appstatus.Status
	AppsErr  error // why the manager says nothing about the apps
	Network  bool  // there is a default route
}

// Judge lists what is missing for a confirmation, worst first; nothing is the good answer.
func Judge(l Look, before update.Before) []string {
	if l.PID1 != nil {
		return []string{fmt.Sprintf("PID 1 does not answer: %v", l.PID1)}
	}
	var missing []string
	for _, name := range Essential {
		if why := service(l.Services, name); why != "" {
			missing = append(missing, why)
		}
	}
	missing = append(missing, apps(l, before.Containers)...)
	if before.Network && !l.Network {
		missing = append(missing, "there is no default route, and there was one before the update")
	}
	return missing
}

// service says why a service is not as it is to be.
func service(list []pid1.ServiceStatus, name string) string {
	i := slices.IndexFunc(list, func(s pid1.ServiceStatus) bool { return s.Name == name })
	if i < 0 {
		return fmt.Sprintf("service %s is missing", name)
	}
	switch s := list[i]; {
	case s.Masked || s.State == "armed" || s.State == "up" && (s.Health == "" || s.Health == "ok"):
		return ""
	case s.State == "up":
		return fmt.Sprintf("service %s is not healthy: %s", name, s.Health)
	case s.Reason != "":
		return fmt.Sprintf("service %s is %s: %s", name, s.State, s.Reason)
	default:
		return fmt.Sprintf("service %s is %s", name, s.State)
	}
}

// apps says what is wrong with the engine, and which containers are not up again.
func apps(l Look, wanted []string) (missing []string) {
	if l.AppsErr != nil {
		return []string{fmt.Sprintf("the manager says nothing about the apps: %v", l.AppsErr)}
	}
	if l.Apps.Wrong() {
		return []string{"the engine or the manager is not well: " + l.Apps.Reason}
	}
	for _, name := range wanted {
		app, _, _ := strings.Cut(name, ".")
		a := slices.IndexFunc(l.Apps.Apps, func(a appstatus.App) bool { return a.Name == app })
		if a < 0 {
			missing = append(missing, fmt.Sprintf("app %s is missing, it was up before the update", app))
			continue
		}
		all := l.Apps.Apps[a].Containers
		c := slices.IndexFunc(all, func(c appstatus.Container) bool { return c.ID == name })
		switch {
		case c < 0:
			missing = append(missing, fmt.Sprintf("container %s is missing, it was up before the update", name))
		case all[c].Well():
		default:
			text := fmt.Sprintf("container %s is %s, it was up before the update", name, all[c].State)
			if all[c].Reason != "" {
				text += ": " + all[c].Reason
			}
			missing = append(missing, text)
		}
	}
	return missing
}

// Before is what a device has that runs well, for the record of an update.
func Before(l Look) update.Before {
	b := update.Before{Network: l.Network}
	for _, a := range l.Apps.Apps {
		for _, c := range a.Containers {
			if c.State == appstatus.Up && !c.Wrong() {
				b.Containers = append(b.Containers, c.ID)
			}
		}
	}
	return b
}

// restarts counts how often anything was started again that has to be up: while the number grows, nothing is stable. A
// container that was not up before the update may go on failing.
func (l Look) restarts(before update.Before) int {
	n := 0
	for _, s := range l.Services {
		if slices.Contains(Essential, s.Name) {
			n += s.Restarts
		}
	}
	for _, a := range l.Apps.Apps {
		for _, c := range a.Containers {
			if slices.Contains(before.Containers, c.ID) {
				n += c.Restarts
			}
		}
	}
	return n
}

// DefaultRoute reports whether the kernel has a default route, by its tables below proc.
func DefaultRoute(proc string) bool {
	text, _ := os.ReadFile(proc + "/net/route") // without the file there is no such route
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line) // interface, destination, gateway, flags, …, mask
		if len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" && f[0] != "lo" {
			return true
		}
	}
	text, _ = os.ReadFile(proc + "/net/ipv6_route") // the same
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line) // destination, its length, …, interface
		if len(f) == 10 && f[1] == "00" && strings.Trim(f[0], "0") == "" && f[9] != "lo" {
			return true
		}
	}
	return false
}
