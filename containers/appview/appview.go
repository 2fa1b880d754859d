// Package appview computes the status of the apps that package appstatus defines, from the wanted apps, the containers
// of the engine, and the records of the manager.
//
// It is pure: it reads no clock, asks no engine and writes no file. Read View first.
package appview

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"resinos/containers/app"
	"resinos/containers/appfiles"
	"resinos/containers/appstatus"
	"resinos/containers/health"
	"resinos/containers/plan"
	"resinos/containers/pull"
	"resinos/containers/restart"
)

// loopAfter is how many ends in a row, each soon after the start, are a crash loop. One or two may be by chance.
const loopAfter = 3

// Forever is the result of Settles when nothing changes by itself.
const Forever = time.Duration(1<<63 - 1)

// View is everything that a status depends on.
type View struct {
	Apps    appfiles.Apps
	State   plan.State
	Records map[string]restart.Record
	Errors  map[string]error
	Busy    map[string]bool
	Pulls   func(image string) (pull.Status, bool)
	Health  func(id string) health.Status
	Waits   map[string]plan.Step
	Now     time.Duration
}

// Fault is why a container is not as wanted: a step of it failed, or its image cannot be pulled.
func (v View) Fault(want *plan.Want, id string) error {
	if err := v.Errors[id]; err != nil || want == nil {
		return err
	}
	if _, there := v.State.Images[want.Image]; !there && want.PullPolicy == app.PullNever && want.Preload == nil {
		return fmt.Errorf("container image %s is not there, and pull_policy is never: osctl load it", want.Image)
	}
	if p, ok := v.Pulls(want.Image); ok && p.Err != nil {
		return fmt.Errorf("pull %s: %w", want.Image, p.Err)
	}
	return nil
}

// pulling returns the progress of the pull of a container's image, nil if there is no pull.
func (v View) pulling(want *plan.Want) *appstatus.Pull {
	if want == nil {
		return nil
	}
	p, ok := v.Pulls(want.Image)
	if !ok {
		return nil
	}
	done, size := p.Sum()
	return &appstatus.Pull{Done: done, Size: size, Waiting: p.Waiting}
}

// All lists every app that is wanted or has containers, with all its containers. It is pure; the caller fills in the
// times that it leaves 0.
func (v View) All() []appstatus.App {
	wanted, byApp := map[string]*plan.Want{}, map[string]map[string]bool{}
	note := func(app, id string) {
		if byApp[app] == nil {
			byApp[app] = map[string]bool{}
		}
		if id != "" {
			byApp[app][id] = true
		}
	}
	for i := range v.Apps.Wanted {
		w := &v.Apps.Wanted[i]
		wanted[w.ID()] = w
		note(w.App, w.ID())
	}
	for id, have := range v.State.Containers {
		note(have.App, id)
	}
	for _, name := range slices.Concat(v.Apps.Alone, v.Apps.Down) {
		note(name, "")
	}
	list := []appstatus.App{}
	for _, name := range slices.Sorted(maps.Keys(byApp)) {
		a := appstatus.App{Name: name}
		if slices.Contains(v.Apps.Down, name) {
			a.State = appstatus.Down
		}
		if slices.Contains(v.Apps.Alone, name) {
			a.State = appstatus.GivenUp
			a.Trouble = appstatus.Trouble{Cause: appstatus.NotUnderstood, Reason: "cannot be read: " + v.Apps.Why(name)}
		}
		for _, id := range slices.Sorted(maps.Keys(byApp[name])) {
			a.Containers = append(a.Containers, v.container(name, id, wanted[id]))
		}
		list = append(list, a)
	}
	return list
}

// container returns the status of one container; want is nil if no app wants it, or if its app cannot be read.
func (v View) container(name, id string, want *plan.Want) appstatus.Container {
	have, there := v.State.Containers[id]
	r := v.Records[id]
	c := appstatus.Container{Name: strings.TrimPrefix(id, name+"."), ID: id, Image: have.ImageName, Restarts: max(0,
		r.Starts-1), Kills: have.Kills}
	if want != nil {
		c.Image, c.Policy = want.Image, want.Restart.String()
		for _, p := range want.Ports {
			c.Ports = append(c.Ports, p.String())
		}
	}
	if status, kept := have.Exit(); r.Ended > 0 {
		c.LastExit, c.LastAt = EndOf(r), r.Ended.Seconds()
	} else if kept { // in an earlier boot
		c.LastExit = EndOf(restart.Record{Status: status})
	}
	c.Pull = v.pulling(want)
	c.State, c.Entered = v.stateOf(want, have, there, r, id)
	c.Waits = v.Waits[id].Why
	if c.State == appstatus.Up {
		c.Health = string(v.Health(id))
	}
	c.Trouble = v.troubleOf(want, c.State, r, id)
	return c
}

// looping reports whether a container is in a crash loop, which lasts until it stays up for longer.
func (v View) looping(r restart.Record) bool {
	return r.Quick >= loopAfter && !(r.Running && v.Now-r.Started >= restart.Healthy)
}

// Settles returns the time until the first of the crash loops is over, if its container keeps running.
func (v View) Settles() time.Duration {
	wait := Forever
	for _, r := range v.Records {
		if r.Running && v.looping(r) {
			wait = min(wait, r.Started+restart.Healthy-v.Now)
		}
	}
	return wait
}

func (v View) stateOf(want *plan.Want, have plan.Have, there bool, r restart.Record,
	id string) (appstatus.State, float64) {
	again, returns := true, true // an app that cannot be read now is assumed to be wanted again
	if want != nil {
		_, again = restart.Next(want.Restart, r)
		returns = restart.Returns(want.Restart.Policy, have.StaysEnded != "", have.Held != "")
	}
	held := r.Held || r.Starts == 0 && have.Held != "" && !returns
	if status, kept := have.Exit(); kept && r.Starts == 0 && !returns { // it ended in an earlier boot
		r.Starts, r.Status = 1, status
	}
	switch {
	case want == nil && there && !slices.Contains(v.Apps.Alone, have.App):
		return appstatus.Stopping, 0
	case have.Task == plan.Running && r.Held:
		return appstatus.Stopping, 0
	case have.Task == plan.Running:
		return appstatus.Up, r.Started.Seconds()
	case held && have.Task == plan.NoTask && !v.Busy[id]:
		return appstatus.Halted, r.Ended.Seconds()
	case v.Busy[id]:
		return appstatus.Starting, 0
	case v.Fault(want, id) != nil:
		return appstatus.Backoff, 0
	case have.Task == plan.Created, have.Task == plan.NoTask && (r.Starts == 0 || v.Waits[id].Why != ""):
		return appstatus.Starting, 0
	case have.Task != plan.NoTask && have.Task != plan.Stopped:
		return appstatus.Unknown, 0
	case returns && again && (r.Ended > 0 || r.Status != 0):
		return appstatus.Backoff, r.Ended.Seconds()
	case r.Status != 0:
		return appstatus.GivenUp, r.Ended.Seconds()
	}
	return appstatus.Done, r.Ended.Seconds()
}

func (v View) troubleOf(want *plan.Want, state appstatus.State, r restart.Record, id string) appstatus.Trouble {
	switch err := v.Fault(want, id); {
	case err != nil:
		return appstatus.Trouble{Cause: appstatus.NotAsWanted, Reason: err.Error()}
	case v.Waits[id].Failed:
		return appstatus.Trouble{Cause: appstatus.Dependency, Reason: v.Waits[id].Why}
	case state == appstatus.Unknown:
		return appstatus.Trouble{Cause: appstatus.Unanswered, Reason: "its shim does not answer"}
	case state == appstatus.GivenUp:
		return appstatus.Trouble{Cause: appstatus.Failed, Since: r.Ended.Seconds(), Reason: EndOf(r) +
			", and is not started again" + policyOf(want)}
	case state != appstatus.Done && v.looping(r):
		return appstatus.Trouble{Cause: appstatus.CrashLoop,
			Reason: fmt.Sprintf("crash loop: ended %d times in %s, each time within %v of its start, last: %s",
				r.Quick, span(r.Ended-r.First), restart.Healthy, EndOf(r))}
	case state == appstatus.Up && v.Health(id) == health.Unhealthy:
		return appstatus.Trouble{Cause: appstatus.Unhealthy, Reason: "unhealthy: its check fails"}
	}
	return appstatus.Trouble{}
}

func policyOf(want *plan.Want) string {
	if want == nil {
		return ""
	}
	policy := want.Restart.String()
	if policy == "" {
		policy = string(app.Never)
	}
	return " (restart: " + policy + ")"
}

// span returns a time for people: from a minute on, only the minutes.
func span(d time.Duration) string {
	if d < time.Minute {
		return max(d.Round(time.Second), time.Second).String()
	}
	return fmt.Sprintf("%d min", int(d.Minutes()))
}

// EndOf returns how a program ended, for people. If memory ran out, it says that instead of the signal.
func EndOf(r restart.Record) string {
	switch {
	case r.OOM:
		return "out of memory"
	case r.Status == restart.LostStatus:
		return fmt.Sprintf("killed (status %d)", r.Status)
	}
	return fmt.Sprintf("exited with status %d", r.Status)
}
