package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/restart"
)

// lack is the reason why a container has to wait for another one; the zero lack is none.
type lack struct {
	why    string
	failed bool // only a person can change it
}

// lack checks all containers that a container depends on. Dependencies matter when a container is started for the first
// time in a boot, and when a person starts it; a restart policy ignores them, as docker does.
func (p *planner) lack() lack {
	var first lack
	for _, d := range p.want.DependsOn {
		for i := range p.in.Wanted { // a service that no profile has activated is not wanted, so nothing waits for it
			other := &p.in.Wanted[i]
			if other.App != p.want.App || other.Service != d.Service || other.Hold != "" {
				continue // a container of osctl run is a copy of the service, not the service
			}
			why, failed := p.in.unmet(d, other)
			if why == "" || failed && !d.Required {
				continue
			}
			l := lack{fmt.Sprintf("waits for %s to %s: %s", other.ID(), goals[d.Condition], why), failed}
			if first.why == "" || l.failed && !first.failed { // a failure is the best reason
				first = l
			}
		}
	}
	if first.why == "" {
		return p.unjoined()
	}
	return first
}

// unjoined is the lack of a running container whose namespaces this one uses: without it, no policy starts this one.
func (p *planner) unjoined() lack {
	for _, namespace := range slices.Sorted(maps.Keys(p.want.Joins)) {
		id := p.want.Joined(namespace)
		if p.in.State.Containers[id].Task == Running {
			continue
		}
		l := lack{why: fmt.Sprintf("waits for %s to run, whose %s it uses", id, namespace)}
		for i := range p.in.Wanted {
			other, r := &p.in.Wanted[i], p.in.Records[id]
			if _, again := restart.Next(other.Restart, r); other.ID() == id {
				l.failed = r.Asked == restart.Nothing && !r.Running && r.Starts > 0 && !again || r.Held
			}
		}
		return l
	}
	return lack{}
}

// Parted returns the containers that run in namespaces of others that have been started again since: these namespaces
// are no longer in use by the others.
func Parted(in Input) (list []string) {
	for i := range in.Wanted {
		id := in.Wanted[i].ID()
		have := in.State.Containers[id]
		if in.Wanted[i].Hold != "" || have.Task != Running || in.Records[id].Held {
			continue
		}
		for other, pid := range have.Joined {
			if o := in.State.Containers[other]; o.Task == Running && o.PID != pid && !slices.Contains(list, id) {
				list = append(list, id)
			}
		}
	}
	return list
}

var goals = map[app.Condition]string{
	app.ServiceStarted: "start", app.ServiceHealthy: "be healthy", app.ServiceCompleted: "end with 0",
}

// unmet returns why the condition of a dependency does not hold yet, "" if it holds, and whether only a person can
// change that.
func (in *Input) unmet(d app.Dependency, other *Want) (why string, failed bool) {
	id := other.ID()
	have, there := in.State.Containers[id]
	r := in.Records[id]
	running := have.Task == Running
	_, again := restart.Next(other.Restart, r)
	status, kept := r.Status, r.Starts > 0
	if !kept { // it may have run in an earlier boot
		status, kept = have.Exit()
	}
	returns := restart.Returns(other.Restart.Policy, have.StaysEnded != "", have.Held != "")
	over := have.Task == NoTask && !r.Running && (r.Starts > 0 && !again || r.Starts == 0 && there && !returns) &&
		r.Asked == restart.Nothing
	completed := d.Condition == app.ServiceCompleted
	switch fault := in.Faults[id]; {
	case fault != nil && !running:
		return "it cannot be started", true
	case !there:
		return "it is not there yet", false
	case in.stale(other, have):
		return "it is replaced", false
	case r.Held || r.Starts == 0 && have.Held != "" && !returns:
		return "it was stopped by a person", true
	case r.Asked == restart.Restart:
		return "it is restarted", false
	case d.Condition == app.ServiceStarted && (running || over || r.Starts > 0 && r.Asked == restart.Nothing):
		return "", false
	case completed && running:
		return "it runs", false
	case completed && kept && status == 0 && have.Task == NoTask && !r.Running && r.Asked == restart.Nothing:
		return "", false // otherwise the status is that of an earlier start
	case over && (!completed || r.Starts > 0):
		return "it ended with " + fmt.Sprint(status), true
	case !running:
		return "it does not run yet", false
	case have.Check == nil:
		return "it has no health check", true
	}
	switch s := in.Health[id]; s {
	case health.Healthy:
		return "", false
	case health.Unhealthy:
		return "it is unhealthy", true
	}
	return "it is starting", false
}

// stale reports whether a container is about to be replaced: it is not as wanted, and the new image is there.
func (in *Input) stale(w *Want, have Have) bool {
	_, there := in.State.Images[w.Image]
	return (there || w.Preload != nil) && in.outdated(w, have) != ""
}

// awaited returns the containers whose success another one waits for.
func (in *Input) awaited() map[string]bool {
	services := map[string]bool{}
	for i := range in.Wanted {
		for _, d := range in.Wanted[i].DependsOn {
			if d.Condition == app.ServiceCompleted {
				services[in.Wanted[i].App+"."+d.Service] = true
			}
		}
	}
	return services
}

// reverse makes the plan stop containers before those that they depend on: it removes the steps of a container that is
// to be stopped while a container that depends on it is to be stopped too.
func (in *Input) reverse(steps []Step) []Step {
	stops := map[string]bool{}
	for _, s := range steps {
		if s.Verb == Stop {
			stops[s.Container] = true
		}
	}
	if len(stops) < 2 {
		return steps
	}
	wait := map[string]bool{}
	for id := range stops {
		for other := range stops {
			wait[id] = wait[id] || other != id && in.State.Needs(other, id) && !in.State.Needs(id, other)
		}
	}
	return slices.DeleteFunc(steps, func(s Step) bool { return wait[s.Container] })
}

// Needs reports whether a container depends on another one, directly or through others.
func (s State) Needs(id, other string) bool {
	return s.needs(id, other, map[string]bool{})
}

func (s State) needs(id, other string, seen map[string]bool) bool {
	have := s.Containers[id]
	if seen[id] || len(have.Depends) == 0 || have.App != s.Containers[other].App {
		return false
	}
	seen[id] = true
	if slices.Contains(have.Depends, service(other)) {
		return true
	}
	for next := range s.Containers {
		if slices.Contains(have.Depends, service(next)) && s.Containers[next].App == have.App && s.needs(next, other,
			seen) {
			return true
		}
	}
	return false
}

// service returns the service in a container's name APP.SERVICE[.NUMBER].
func service(id string) string {
	parts := strings.Split(id, ".")
	if len(parts) < 2 {
		return id
	}
	return parts[1]
}

// Restarts returns the running containers that have to be restarted because a container that they depend on with
// restart: true, directly or through others, is replaced or was restarted by a person; changed reports that of a
// container.
func Restarts(in Input, changed func(id string) bool) (list []string) {
	found := map[string]bool{}
	for again := true; again; {
		again = false
		for i := range in.Wanted {
			w := &in.Wanted[i]
			id := w.ID()
			if found[id] || in.State.Containers[id].Task != Running || in.Records[id].Held {
				continue
			}
			for _, d := range w.DependsOn {
				for other := range in.State.Containers {
					if d.Restart && in.State.Containers[other].App == w.App && service(other) == d.Service &&
						(changed(other) || found[other]) && !found[id] {
						found[id], again = true, true
						list = append(list, id)
					}
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// Stale returns the containers that are about to be replaced.
func Stale(in Input) map[string]bool {
	out := map[string]bool{}
	for i := range in.Wanted {
		w := &in.Wanted[i]
		if have, there := in.State.Containers[w.ID()]; there && in.stale(w, have) {
			out[w.ID()] = true
		}
	}
	return out
}
