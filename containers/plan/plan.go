// Package plan computes what the manager has to do next: a list of steps, from the wanted containers, the containers of
// the engine, and the records of each. It is pure. Read Input first, then Make.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"resinos/containers/app"
	"resinos/containers/health"
	"resinos/containers/restart"
)

// wishVersion is part of every Want.Digest. Increase it when engineclient/spec.go creates containers differently, so
// that an update of the system replaces them.
const wishVersion = 5

// Want is one wanted container and, if its image is in a file of the app, that file.
type Want struct {
	app.Container
	Preload *Preload
}

// Preload is a container image in a file.
type Preload struct {
	Path   string
	Name   string // the full reference of the image
	Digest string // of its manifest or index
	// First is set for a file that any app may use: it replaces the first pull only, and an image that was pulled later
	// is used instead.
	First bool
}

// Digest changes when the container has to be replaced.
func (w Want) Digest() string {
	text, err := json.Marshal(struct {
		Version   int
		Container app.Container
	}{wishVersion, w.Container})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Outdated reports whether the name of the container's image now means another image. The container is replaced only if
// its pull_policy or a person asks for that.
func (w Want) Outdated(have Have, images map[string]string) bool {
	digest, there := images[w.Image]
	return !w.pinned() && there && have.ImageName == w.Image && have.ImageDigest != digest
}

// pinned reports whether the container must use the image in the file of its app, and no other one of this name.
func (w Want) pinned() bool { return w.Preload != nil && !w.Preload.First }

// Renews reports whether the container gets each new image of its name, so that the image is pulled again.
func (w Want) Renews() bool {
	return !w.pinned() && w.PullPolicy != "" && w.PullPolicy != app.PullNever
}

// Verb is what a step does.
type Verb string

// The verbs, in the order of a container's life.
const (
	Import Verb = "import"
	Pull   Verb = "pull"
	Stop   Verb = "stop"
	Reap   Verb = "reap"
	Lost   Verb = "lost" // only records that the program ended with an unknown status
	Delete Verb = "delete"
	Create Verb = "create"
	Start  Verb = "start"
	Wait   Verb = "wait" // waits for another container: nothing is done now
	Note   Verb = "note" // writes Step.Mark beside the container, for the next boot
)

// Step is one action for one container. Steps of a container are carried out in order, and the rest is dropped when one
// fails; steps of different containers are independent.
type Step struct {
	Container string
	Verb      Verb
	Why       string
	Not       time.Duration // not before this time since the kernel started
	Mark      Mark          // of Note ...
	Value     string        // ... empty: the mark is removed
	Failed    bool          // of Wait: only a person can change what it waits for
}

// String returns the step as golden files and the log show it.
func (s Step) String() string {
	text := fmt.Sprintf("%s: %s (%s)", s.Container, s.Verb, s.Why)
	if s.Not > 0 {
		text += fmt.Sprintf(" not before %v", s.Not)
	}
	return text
}

// Input is everything that a plan depends on.
type Input struct {
	Wanted []Want
	// Alone are the apps whose file cannot be read now: their containers stay as they are.
	Alone []string
	// Down are the apps that a person took down: their containers are removed.
	Down    map[string]bool
	State   State
	Records map[string]restart.Record
	Health  map[string]health.Status // of the containers with a check
	Faults  map[string]error         // of those whose steps failed, or whose image cannot be pulled
}

// Make returns the steps from the actual to the wanted state, sorted by container. It is empty when nothing is to be
// done now or later.
func Make(in Input) []Step {
	wanted := map[string]*Want{}
	for i := range in.Wanted {
		wanted[in.Wanted[i].ID()] = &in.Wanted[i]
	}
	ids := maps.Clone(in.State.Containers)
	if ids == nil {
		ids = map[string]Have{}
	}
	for id := range wanted {
		if _, ok := ids[id]; !ok {
			ids[id] = Have{}
		}
	}
	var steps []Step
	awaited := in.awaited()
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		p := planner{id: id, in: &in, want: wanted[id], record: in.Records[id]}
		p.awaited = p.want != nil && awaited[p.want.App+"."+p.want.Service]
		if have, ok := in.State.Containers[id]; ok {
			p.have = &have
		}
		if p.want == nil && slices.Contains(in.Alone, p.have.App) {
			p.maintain()
		} else if p.want == nil && p.have.Passing && !in.Down[p.have.App] && !p.record.Held &&
			(p.have.Task == Running || p.have.Task == Unknown) {
			continue // a container of osctl run ends by itself
		} else {
			p.plan()
		}
		steps = append(steps, p.steps...)
	}
	return in.reverse(steps)
}

// planner plans one container.
type planner struct {
	id     string
	in     *Input
	want   *Want // nil: not wanted
	have   *Have // nil: it does not exist
	record restart.Record
	steps  []Step
	// awaited: another container waits for its success.
	awaited bool
}

func (p *planner) add(v Verb, why string) {
	p.steps = append(p.steps, Step{Container: p.id, Verb: v, Why: why})
}

func (p *planner) plan() {
	switch {
	case p.want == nil:
		p.remove("not wanted")
	case p.have == nil:
		p.make("new")
	default:
		if why := p.in.outdated(p.want, *p.have); why != "" {
			p.remake(why)
		} else {
			p.keep()
		}
	}
}

// outdated returns why a container is to be replaced, "" if it is as wanted.
func (in *Input) outdated(w *Want, have Have) string {
	switch r := in.Records[w.ID()]; {
	case have.Wish != w.Digest():
		return "wish changed"
	case w.pinned() && have.ImageDigest != w.Preload.Digest:
		return "image changed"
	case w.Outdated(have, in.State.Images) && (r.Renew || w.Renews() && !r.Held && have.Held == ""):
		return "a newer image is there"
	}
	return ""
}

// remove stops and removes the container.
func (p *planner) remove(why string) {
	if p.have.Task != NoTask {
		p.add(Stop, why)
	}
	p.add(Delete, why)
}

// remake replaces the container, and removes the old one only when the new image is there; until then the old one
// follows its restart policy.
func (p *planner) remake(why string) {
	if !p.fetch() {
		p.keep()
		return
	}
	p.remove(why)
	p.add(Create, why)
	p.begin(why)
}

// begin starts a container if its dependencies allow that.
func (p *planner) begin(why string) {
	if l := p.lack(); l.why != "" {
		p.wait(l)
		return
	}
	p.add(Start, why)
}

func (p *planner) wait(l lack) {
	p.steps = append(p.steps, Step{Container: p.id, Verb: Wait, Why: l.why, Failed: l.failed})
}

func (p *planner) make(why string) {
	if !p.record.Held && p.fetch() {
		p.add(Create, why)
		p.begin(why)
	}
}

// fetch adds the steps that bring the image, and reports whether the image is there after them. A pull may take very
// long, so no step waits for it: the further steps are planned when the image is there.
func (p *planner) fetch() bool {
	digest, there := p.in.State.Images[p.want.Image]
	switch pre := p.want.Preload; {
	case pre != nil && digest != pre.Digest && !(pre.First && there):
		p.add(Import, "image is in "+pre.Path)
	case pre == nil && !there && p.want.PullPolicy == app.PullNever:
		p.add(Pull, p.want.Image+" is lacking, and pull_policy is never")
		return false
	case pre == nil && !there:
		p.add(Pull, p.want.Image+" is lacking")
		return false
	}
	return true
}

// keep applies the orders of people, and the restart policy, to a container that is as wanted.
func (p *planner) keep() {
	switch p.have.Task {
	case Running:
		p.run()
		return
	case Unknown:
		return
	case Created:
		p.add(Start, "half started")
		return
	case Stopped:
		// first, so that it is recorded even if the manager is killed in between
		p.note(p.record.End(0, p.have.Status))
		p.add(Reap, "ended")
		return
	}
	switch not, again := restart.Next(p.want.Restart, p.record); {
	case p.record.Running:
		p.add(Lost, "ended unseen")
	case p.record.Asked != restart.Nothing:
		p.start(string(p.record.Asked) + " asked for")
	case p.record.Held:
		p.hold()
	case p.record.Starts == 0 && !restart.Returns(p.want.Restart.Policy, p.have.StaysEnded != "", p.have.Held != ""):
		// A job that a power cut ended, or that failed, runs again for the containers that wait for it, as with compose
		// up.
		if status, kept := p.have.Exit(); p.awaited && p.have.Held == "" && !(kept && status == 0) {
			p.start("another container waits for its success")
		}
	case p.record.Starts == 0:
		p.start("not started since the device is up")
	default:
		p.note(p.record)
		if l := p.unjoined(); again && l.why != "" {
			p.wait(l)
		} else if again {
			p.steps = append(p.steps, Step{Container: p.id, Verb: Start, Not: not,
				Why: fmt.Sprintf("ended with %d, restart %s", p.record.Status, p.want.Restart)})
		}
	}
}

// run leaves the program running, unless a person asked for something else.
func (p *planner) run() {
	switch {
	case p.record.Held:
		p.hold() // first, so that it stays stopped even after a power cut in between
		p.add(Stop, "stop asked for")
	case p.record.Asked == restart.Restart:
		p.add(Stop, "restart asked for")
		p.begin("restart asked for")
	default:
		p.note(p.record.Adopted())
		p.release()
	}
}

func (p *planner) start(why string) {
	p.release()
	p.begin(why)
}

// note records that the container stays ended at the next boot.
func (p *planner) note(r restart.Record) {
	if restart.Stays(p.want.Restart.Policy, r) {
		p.mark(StaysEnded, p.have.StaysEnded, r, "restart "+p.want.Restart.String())
	}
}

// hold records that a person stopped the container.
func (p *planner) hold() { p.mark(Held, p.have.Held, p.record, "stopped by a person") }

func (p *planner) mark(mark Mark, have string, r restart.Record, why string) {
	value := markRuns
	if p.have.Task != Running {
		value = fmt.Sprint(r.Status)
	}
	if have != value { // a mark from an earlier start means nothing for this one
		p.steps = append(p.steps, Step{Container: p.id, Verb: Note, Mark: mark, Value: value, Why: why})
	}
}

// release removes the mark that a person stopped the container.
func (p *planner) release() {
	if p.have.Held != "" {
		p.steps = append(p.steps, Step{Container: p.id, Verb: Note, Mark: Held, Why: "no longer held"})
	}
}

// maintain removes ended tasks of a container whose app cannot be read, and stops it if a person asks for that.
func (p *planner) maintain() {
	switch {
	case p.have.Task == Stopped:
		p.add(Reap, "ended")
	case p.record.Held && p.have.Task == Running:
		p.hold()
		p.add(Stop, "stop asked for")
	}
}

// print returns a whole plan as text.
func print(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}
