package starter

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"resinos/mounts/testenv"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise/command"
	"resinos/services/supervise/descriptor"
	"resinos/services/supervise/processes"
)

// starter returns a Starter whose processes write into the returned file, and which reaps them.
func starter(t *testing.T) (*Starter, *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reaper := proc.NewReaper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- reaper.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		r.Close()
		w.Close()
	})
	log := slog.New(slog.DiscardHandler)
	return &Starter{
		Maker:  command.Maker{Log: log, Output: func(string) (*os.File, error) { return w, nil }},
		Groups: processes.New(nil, log), Reaper: reaper, Log: log,
	}, r
}

func shell(line string) *spec.Spec {
	return &spec.Spec{Name: "a", Command: []string{"/bin/sh", "-c", line}, WorkingDirectory: "/"}
}

// TestMainProcess: the log knows the pid before the first line of the process could, and the exit is reported once.
func TestMainProcess(t *testing.T) {
	s, out := starter(t)
	exits := make(chan proc.Status, 2)
	for _, again := range []bool{false, true} {
		p, kills, err := s.Main(shell("exit 3"), &descriptor.Set{}, again, func(st proc.Status) { exits <- st })
		if err != nil || kills != 0 {
			t.Fatalf("%d kills, %v", kills, err)
		}
		if st := testenv.Receive(t, "the exit", exits); st.Pid != p.Pid || st.Wait.ExitStatus() != 3 {
			t.Errorf("process %d exits as %+v", p.Pid, st)
		}
		want := "pid"
		if again {
			want = "pid 0"
		}
		buf := make([]byte, 100)
		if n, err := out.Read(buf); err != nil || !strings.Contains(string(buf[:n]), want) {
			t.Errorf("the log has %q, want %q; %v", buf[:n], want, err)
		}
	}
	bad := shell("")
	bad.Command = []string{"/usr/no/such/program"}
	if _, _, err := s.Main(bad, &descriptor.Set{}, false, nil); err == nil {
		t.Error("a program that does not exist is started")
	}
}

// TestExtra: a process gets the descriptors that it inherits.
func TestExtra(t *testing.T) {
	s, _ := starter(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exits := make(chan proc.Status, 1)
	argv := []string{"/bin/sh", "-c", "echo inherited >&3"}
	g := command.Inherited{Files: []*os.File{w}}
	if _, err := s.Extra(shell(""), argv, g, func(st proc.Status) { exits <- st }); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "inherited\n" {
		t.Errorf("descriptor 3 got %q, %v", text, err)
	}
	if st := testenv.Receive(t, "the exit", exits); !st.OK() {
		t.Errorf("exit %+v", st)
	}
}
