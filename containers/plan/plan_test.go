package plan

import (
	"testing"
	"time"

	"resinos/containers/app"
	"resinos/containers/restart"
	"resinos/mounts/testenv"
)

func container(appName, service string, restart app.Policy) app.Container {
	return app.Container{App: appName, Service: service, Image: "docker.io/library/busybox:latest",
		Network: app.NetworkHost, Restart: app.Restart{Policy: restart}}
}

// TestPlan holds the plan of each situation against testdata/plan/NAME.golden.
func TestPlan(t *testing.T) {
	web := Want{Container: container("hello", "web", app.Always)}
	loaded := web
	loaded.Preload = &Preload{Path: "images/busybox.tar", Name: web.Image, Digest: "sha256:new"}
	image := map[string]string{web.Image: "sha256:old"}
	have := func(change func(*Have)) map[string]Have {
		h := Have{App: "hello", Wish: web.Digest(), ImageName: web.Image, ImageDigest: "sha256:old", Task: Running}
		change(&h)
		return map[string]Have{"hello.web": h}
	}
	once := Want{Container: container("hello", "web", app.Never)}
	failing := Want{Container: container("hello", "web", app.OnFailure)}
	failing.Restart.Limit = 2
	unless := Want{Container: container("hello", "web", app.UnlessStopped)}
	stays := func(w Want, task Task) map[string]Have {
		return have(func(h *Have) { h.Task, h.Wish, h.StaysEnded = task, w.Digest(), "1" })
	}
	stopped := func(w Want) map[string]Have {
		return have(func(h *Have) { h.Task, h.Wish = NoTask, w.Digest() })
	}
	ended := func(status uint32, starts, quick int) map[string]restart.Record {
		return map[string]restart.Record{"hello.web": {Starts: starts, Quick: quick, Status: status, Ended: time.Hour}}
	}
	held := func(w Want, mark string) map[string]Have {
		return have(func(h *Have) { h.Task, h.Wish, h.Held = NoTask, w.Digest(), mark })
	}
	person := func(r restart.Record) map[string]restart.Record {
		r.Starts = 1
		return map[string]restart.Record{"hello.web": r}
	}
	for name, in := range map[string]Input{
		"nothing":         {},
		"new_pull":        {Wanted: []Want{web}},
		"new_preload":     {Wanted: []Want{loaded}},
		"new_image_there": {Wanted: []Want{web}, State: State{Images: image}},
		"running":         {Wanted: []Want{web}, State: State{Images: image, Containers: have(func(h *Have) {})}},
		"wish_changed": {Wanted: []Want{web},
			State: State{Images: image, Containers: have(func(h *Have) { h.Wish = "other" })}},
		"changed_pull": {Wanted: []Want{web},
			State: State{Containers: have(func(h *Have) { h.Wish = "other" })}},
		"changed_pull_ended": {Wanted: []Want{web},
			State: State{Containers: have(func(h *Have) { h.Wish, h.Task = "other", Stopped })}},
		"preload_changed": {Wanted: []Want{loaded},
			State: State{Images: image, Containers: have(func(h *Have) { h.Wish = loaded.Digest() })}},
		"preload_imported": {Wanted: []Want{loaded},
			State: State{Images: map[string]string{web.Image: "sha256:new"},
				Containers: have(func(h *Have) { h.Task = NoTask })}},
		"not_wanted":         {State: State{Containers: have(func(h *Have) {})}},
		"not_wanted_stopped": {State: State{Containers: have(func(h *Have) { h.Task = NoTask })}},
		"app_broken":         {Alone: []string{"hello"}, State: State{Containers: have(func(h *Have) {})}},
		"app_broken_ended": {Alone: []string{"hello"},
			State: State{Containers: have(func(h *Have) { h.Task = Stopped })}},
		"after_power_cut":  {Wanted: []Want{web}, State: State{Images: image, Containers: stopped(web)}},
		"after_cut_once":   {Wanted: []Want{once}, State: State{Images: image, Containers: stopped(once)}},
		"after_cut_stays":  {Wanted: []Want{once}, State: State{Images: image, Containers: stays(once, NoTask)}},
		"after_cut_always": {Wanted: []Want{web}, State: State{Images: image, Containers: stays(web, NoTask)}},
		"after_cut_unless": {Wanted: []Want{unless},
			State: State{Images: image, Containers: stays(unless, NoTask)}},
		"running_once": {Wanted: []Want{once},
			State: State{Images: image, Containers: have(func(h *Have) { h.Wish = once.Digest() })}},
		"running_once_marked": {Wanted: []Want{once}, State: State{Images: image,
			Containers: have(func(h *Have) { h.Wish, h.StaysEnded = once.Digest(), markRuns })}},
		"running_once_noted": {Wanted: []Want{once}, State: State{Images: image, Containers: stays(once, Running)}},
		"changed_stays":      {Wanted: []Want{once}, State: State{Images: image, Containers: stays(web, NoTask)}},
		"reaped_once_noted": {Wanted: []Want{once},
			State:   State{Images: image, Containers: stays(once, NoTask)},
			Records: ended(1, 1, 1)},
		"ended_once": {Wanted: []Want{once},
			State: State{Images: image, Containers: have(func(h *Have) { h.Task, h.Wish = Stopped, once.Digest() })}},
		"ended_well": {Wanted: []Want{failing},
			State: State{Images: image,
				Containers: have(func(h *Have) { h.Task, h.Wish = Stopped, failing.Digest() })}},
		"ended_badly": {Wanted: []Want{failing},
			State: State{Images: image,
				Containers: have(func(h *Have) { h.Task, h.Wish, h.Status = Stopped, failing.Digest(), 1 })}},
		"silent": {Wanted: []Want{web},
			State:   State{Images: image, Containers: have(func(h *Have) { h.Task = Unknown })},
			Records: map[string]restart.Record{"hello.web": {Running: true, Starts: 1}}},
		"silent_not_wanted": {State: State{Containers: have(func(h *Have) { h.Task = Unknown })}},
		"half_started": {Wanted: []Want{web},
			State: State{Images: image, Containers: have(func(h *Have) { h.Task = Created })}},
		"ended": {Wanted: []Want{web},
			State: State{Images: image, Containers: have(func(h *Have) { h.Task = Stopped })}},
		"ended_unseen": {Wanted: []Want{web},
			State:   State{Images: image, Containers: stopped(web)},
			Records: map[string]restart.Record{"hello.web": {Running: true, Starts: 1}}},
		"reaped": {Wanted: []Want{web},
			State:   State{Images: image, Containers: stopped(web)},
			Records: ended(1, 1, 1)},
		"reaped_often": {Wanted: []Want{web},
			State:   State{Images: image, Containers: stopped(web)},
			Records: ended(0, 9, 40)},
		"reaped_once": {Wanted: []Want{once},
			State:   State{Images: image, Containers: stopped(once)},
			Records: ended(1, 1, 1)},
		"on_failure_success": {Wanted: []Want{failing},
			State:   State{Images: image, Containers: stopped(failing)},
			Records: ended(0, 1, 1)},
		"on_failure_again": {Wanted: []Want{failing},
			State:   State{Images: image, Containers: stopped(failing)},
			Records: ended(1, 2, 2)},
		"on_failure_enough": {Wanted: []Want{failing},
			State:   State{Images: image, Containers: stopped(failing)},
			Records: ended(1, 3, 3)},
		"held_runs": {Wanted: []Want{web},
			State:   State{Images: image, Containers: have(func(h *Have) {})},
			Records: person(restart.Record{Held: true, Running: true})},
		"held_stopped": {Wanted: []Want{web},
			State:   State{Images: image, Containers: held(web, markRuns)},
			Records: person(restart.Record{Held: true, Status: 143})},
		"held_noted": {Wanted: []Want{web},
			State:   State{Images: image, Containers: held(web, "143")},
			Records: person(restart.Record{Held: true, Status: 143})},
		"held_new": {Wanted: []Want{web},
			State:   State{Images: image},
			Records: person(restart.Record{Held: true})},
		"held_changed": {Wanted: []Want{unless},
			State:   State{Images: image, Containers: held(web, "143")},
			Records: person(restart.Record{Held: true})},
		"after_cut_held":    {Wanted: []Want{unless}, State: State{Images: image, Containers: held(unless, "143")}},
		"after_held_always": {Wanted: []Want{web}, State: State{Images: image, Containers: held(web, "143")}},
		"start_asked": {Wanted: []Want{unless},
			State:   State{Images: image, Containers: held(unless, "143")},
			Records: person(restart.Record{Asked: restart.Start})},
		"start_asked_job": {Wanted: []Want{once},
			State:   State{Images: image, Containers: stays(once, NoTask)},
			Records: person(restart.Record{Asked: restart.Start})},
		"restart_asked": {Wanted: []Want{web},
			State:   State{Images: image, Containers: have(func(h *Have) {})},
			Records: person(restart.Record{Asked: restart.Restart, Running: true})},
		"two_apps": {Wanted: []Want{{Container: container("b", "x", app.Always)},
			{Container: container("a", "y", app.Always)}},
			State: State{Images: image}},
	} {
		t.Run(name, func(t *testing.T) { testenv.Golden(t, name+".golden", print(Make(in))) })
	}
}

func TestWishDigest(t *testing.T) {
	a, b := container("hello", "web", app.Always), container("hello", "web", app.Always)
	if (Want{Container: a}).Digest() != (Want{Container: b}).Digest() {
		t.Error("equal wishes, other digests")
	}
	b.Environment = []string{"A=1"}
	if (Want{Container: a}).Digest() == (Want{Container: b}).Digest() {
		t.Error("other wishes, equal digests")
	}
}
