package supervise

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/savedstate"
)

// FuzzRestore: a saved state is restored whole, or refused with an error; what was restored can be saved and restored
// again.
func FuzzRestore(f *testing.F) {
	listen := spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: "/run/a"}}}
	for _, s := range []savedstate.State{
		{Version: savedstate.Version, Services: []savedstate.Service{
			{Spec: spec.Spec{Name: "a", Needs: []string{"b"}, Listen: listen}, Phase: "armed", Sockets: []int{0}},
			{
				Spec: spec.Spec{Name: "b"}, Phase: "up", PID: 1 << 30, Birth: 7, Since: time.Second,
				Clients: []savedstate.Process{{PID: 1<<30 + 1, Birth: 8}},
				Stored:  []savedstate.File{{Name: "x", File: 1}},
			},
		}, Exits: []savedstate.Exit{{PID: 1 << 30, Wait: 9}}},
		{Version: savedstate.Version, Ending: true, Services: []savedstate.Service{
			{Spec: spec.Spec{Name: "a", Needs: []string{"a"}}, Phase: "stopping", Deadline: -1},
		}},
		{Version: savedstate.Version, Services: []savedstate.Service{
			{Spec: spec.Spec{Name: "a"}, Phase: "up", PID: -1}, {Spec: spec.Spec{Name: "a"}, Phase: "down"},
		}},
		{Version: savedstate.Version, Services: []savedstate.Service{{Phase: "no such phase", Sockets: []int{-1}}}},
		{Version: 99},
	} {
		text, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text[:len(text)/2])
	}
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var in savedstate.State
		if json.Unmarshal(text, &in) == nil && livingProcess(in) {
			return // which is not the fuzzer's to adopt
		}
		pipe := func() *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			t.Cleanup(func() { r.Close() })
			return r
		}
		s, err := restored(t, text, []*os.File{pipe(), pipe(), pipe()})
		if err != nil {
			return
		}
		again, files, err := s.Save()
		if err != nil {
			t.Fatalf("state %q is restored and not saved: %v", text, err)
		}
		if second, err := restored(t, again, files); err != nil {
			t.Errorf("state %q was saved as %q, which is not restored: %v", text, again, err)
		} else if len(second.handles) != len(s.handles) {
			t.Errorf("state %q has %d services, and saved again %d", text, len(s.handles), len(second.handles))
		}
	})
}

// restored makes a supervisor of a state and of copies of its files, all of which end with the test.
func restored(t *testing.T, text []byte, files []*os.File) (*Supervisor, error) {
	cfg := Config{Reaper: proc.NewReaper(), Saved: text}
	for _, f := range files {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Files = append(cfg.Files, fd)
	}
	s := assemble(cfg)
	err := s.restore()
	t.Cleanup(func() {
		for _, fd := range cfg.Files { // -1 has got an owner
			syscall.Close(fd)
		}
		for _, l := range s.handles {
			l.Descriptors.CloseStored()
			for _, f := range l.Descriptors.Sockets {
				f.Close()
			}
		}
		if s.world != nil {
			s.alarm.Stop()
		}
	})
	return s, err
}

func livingProcess(in savedstate.State) bool {
	alive := func(pid int) bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		return pid > 0 && err == nil
	}
	return slices.ContainsFunc(in.Services, func(svc savedstate.Service) bool {
		return alive(svc.PID) || slices.ContainsFunc(svc.Clients,
			func(c savedstate.Process) bool { return alive(c.PID) })
	})
}
