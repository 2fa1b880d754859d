package request

import (
	"strings"
	"testing"

	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// TestJudge: for a request that was made in one state of a service, what a later state means.
func TestJudge(t *testing.T) {
	plain := &spec.Spec{Name: "a"}
	demand := &spec.Spec{Name: "a", Start: spec.OnDemand, Listen: spec.Listen{Sockets: make([]spec.Socket, 1)}}
	at := func(p lifecycle.Phase, lives int) lifecycle.Service {
		return lifecycle.Service{Phase: p, Lives: lives, Wanted: true}
	}
	unwanted := at(lifecycle.Down, 1)
	unwanted.Wanted = false
	const (
		want, restart, stop = lifecycle.Want, lifecycle.Restart, lifecycle.Stop
		pending, gone, done = "pending", "gone", "done"
	)
	for _, c := range []struct {
		name          string
		event         lifecycle.Event
		sp            *spec.Spec
		before, after lifecycle.Service
		with, result  string // result is done, open (empty) or the error
	}{
		{"start of one that is up", want, plain, at(lifecycle.Up, 1), at(lifecycle.Up, 1), "", done},
		{"start of one that starts", want, plain, at(lifecycle.Starting, 1), at(lifecycle.Up, 1), "", done},
		{"start begun", want, plain, at(lifecycle.Down, 1), at(lifecycle.Starting, 2), "", ""},
		{"start of a oneshot", want, plain, at(lifecycle.Down, 1), at(lifecycle.Done, 2), "", done},
		{"earlier end of a oneshot", want, plain, at(lifecycle.Done, 1), at(lifecycle.Done, 1), "", ""},
		{"restart, not stopped yet", restart, plain, at(lifecycle.Up, 1), at(lifecycle.Up, 1), "", ""},
		{"restart done", restart, plain, at(lifecycle.Up, 1), at(lifecycle.Up, 2), "", done},
		{"backoff of an earlier life", want, plain, at(lifecycle.Backoff, 1), at(lifecycle.Backoff, 1), "", ""},
		{"backoff", want, plain, at(lifecycle.Down, 1), at(lifecycle.Backoff, 2), "", "service a is backoff: reason"},
		{"given up", want, plain, at(lifecycle.Down, 1), at(lifecycle.Failed, 1), "", "service a is failed: reason"},
		{"skipped", want, plain, at(lifecycle.Down, 1), at(lifecycle.Skipped, 1), "", "service a is skipped: reason"},
		{"stopped by another person", want, plain, at(lifecycle.Down, 1), unwanted, "", "service a is down: reason"},
		{"waits for what comes", want, plain, at(lifecycle.Down, 1), at(lifecycle.Waiting, 1), "", ""},
		{"waits for what is gone", want, plain, at(lifecycle.Down, 1), at(lifecycle.Waiting, 1),
			gone, "service a is waiting: reason"},
		{"start on demand", want, demand, at(lifecycle.Down, 0), at(lifecycle.Armed, 0), "", done},
		{"start on demand, conditions open", want, demand, at(lifecycle.Skipped, 0), at(lifecycle.Armed, 0),
			pending, ""},
		{"stop", stop, plain, at(lifecycle.Up, 1), at(lifecycle.Stopping, 1), "", ""},
		{"stop done", stop, plain, at(lifecycle.Up, 1), unwanted, "", done},
	} {
		var list List
		r := New(c.event, 1, c.sp, &c.before)
		list.Add(r)
		list.Answer(func(int) Target {
			reason := func() string { return "reason" }
			return Target{Service: &c.after, Pending: c.with == pending, Gone: c.with == gone, Reason: reason}
		})
		result := ""
		select {
		case err := <-r.Done():
			result = done
			if err != nil {
				result = err.Error()
			}
		default:
		}
		if result != c.result || (result == "") != (list.Len() == 1) {
			t.Errorf("%s: %q, want %q; %d are open", c.name, result, c.result, list.Len())
		}
	}
}

// TestList: a request is judged only when its service has changed, and whoever left gets no answer.
func TestList(t *testing.T) {
	var list List
	up, down := lifecycle.Service{Phase: lifecycle.Up}, lifecycle.Service{Phase: lifecycle.Down}
	requests := []*Request{}
	for id := range 3 {
		requests = append(requests, New(lifecycle.Stop, id, &spec.Spec{Name: "s"}, &up))
		list.Add(requests[id])
	}
	var judged []int
	answer := func(svc *lifecycle.Service) {
		judged = nil
		list.Answer(func(id int) Target { judged = append(judged, id); return Target{Service: svc} })
	}
	answer(&up)
	if len(judged) != 3 {
		t.Errorf("judged %v at first", judged)
	}
	answer(&down)
	if len(judged) != 0 {
		t.Errorf("judged %v without a change", judged)
	}
	list.Touch(1)
	answer(&down)
	if len(judged) != 1 || judged[0] != 1 || len(requests[1].Done()) != 1 {
		t.Errorf("judged %v after a change of 1", judged)
	}
	list.Forget(2)
	if err := <-requests[2].Done(); err == nil || !strings.Contains(err.Error(), "its file was removed") {
		t.Errorf("a request of a forgotten service: %v", err)
	}
	list.Remove(requests[0])
	list.TouchAll()
	answer(&down)
	if len(judged) != 0 || list.Len() != 0 || len(requests[0].Done()) != 0 {
		t.Errorf("judged %v, %d left", judged, list.Len())
	}
}
