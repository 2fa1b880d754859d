package handle

import (
	"log/slog"
	"os/exec"
	"reflect"
	"testing"

	"resinos/services/proc"
	"resinos/services/supervise/lifecycle"
	"resinos/services/supervise/loop"
	"resinos/services/supervise/savedstate"
)

// TestSave: what status shows of a service is the same in the next life of PID 1.
func TestSave(t *testing.T) {
	h := Handle{
		ID: 1, Num: 2, Birth: 3, OOMs: 4, Removed: true, Stale: true, Text: "text",
		Shown: lifecycle.Up, Changed: 5, Began: 6, Ready: 7,
	}
	var out savedstate.Service
	var files savedstate.Files
	h.Save(&out, &files)
	again := Handle{ID: 1, Num: 2}
	if err := again.Restore(&out, lifecycle.Up, nil); err != nil || !reflect.DeepEqual(again, h) {
		t.Errorf("%+v became %+v, %v", h, again, err)
	}
}

// TestAdopt: a process that lives is adopted, and the end of each other one is queued once, with its status where the
// earlier life knew it.
func TestAdopt(t *testing.T) {
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	birth, err := proc.StartTime(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	const gone, known = 1 << 30, 1<<30 + 1 // above the highest pid
	a := Adoption{
		Reaper: proc.NewReaper(), Exits: loop.NewQueue[Exit](), Log: slog.New(slog.DiscardHandler),
		Known: []savedstate.Exit{{PID: known, Wait: 3 << 8}},
	}
	var h Handle
	clients := []savedstate.Process{{PID: child.Process.Pid, Birth: birth}, {PID: gone, Birth: 7}}
	if err := h.Restore(&savedstate.Service{Clients: clients}, lifecycle.Up, nil); err != nil {
		t.Fatal(err)
	}
	h.Adopt(a, "a", known)
	if h.Process != nil || h.Clients.Len() != 1 {
		t.Errorf("main process %v, %d clients, want none and 1", h.Process, h.Clients.Len())
	}
	exits, _ := a.Exits.Take()
	if len(exits) != 2 {
		t.Fatalf("exits %+v", exits)
	}
	if x := exits[0]; x.Client || x.Status.Wait.ExitStatus() != 3 {
		t.Errorf("exit of the main process: %+v", x)
	}
	if x := exits[1]; !x.Client || !x.Status.Unknown {
		t.Errorf("exit of a client: %+v", x)
	}
	h.Adopt(a, "a", 0)
	if exits, _ := a.Exits.Take(); len(exits) != 0 || h.Clients.Len() != 1 {
		t.Errorf("adopted again: %+v", exits)
	}
}
