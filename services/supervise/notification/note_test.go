package notification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/notify"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// senders is a fixed table of processes.
type senders struct {
	owners   map[int]string
	sessions map[int]int
}

func (s senders) Cgroups() bool        { return s.owners != nil }
func (s senders) Owner(pid int) string { return s.owners[pid] }
func (s senders) Session(pid int) int  { return s.sessions[pid] }

// TestOwner: only a process of a service that runs is heard.
func TestOwner(t *testing.T) {
	index := map[string]int{"a": 0, "b": 1}
	services := []lifecycle.Service{{PID: 10}, {}}
	for _, c := range []struct {
		name string
		n    Note
		want int // -1 is nobody
	}{
		{"main process in its cgroup", Note{From: notify.Sender{PID: 10}, owner: "a"}, 0},
		{"child in its cgroup", Note{From: notify.Sender{PID: 11}, owner: "a"}, 0},
		{"leftover of one that has stopped", Note{From: notify.Sender{PID: 12}, owner: "b"}, -1},
		{"cgroup of nobody", Note{From: notify.Sender{PID: 10}, owner: "c"}, -1},
		{"main process without cgroups", Note{From: notify.Sender{PID: 10}}, 0},
		{"child in its session", Note{From: notify.Sender{PID: 11}, session: 10}, 0},
		{"stranger", Note{From: notify.Sender{PID: 11}, session: 9}, -1},
		{"PID 1", Note{From: notify.Sender{PID: 1}, owner: "a"}, -1},
		{"another pid namespace", Note{From: notify.Sender{PID: 0}, owner: "a"}, -1},
	} {
		i, ok := c.n.Owner(index, services)
		if !ok {
			i = -1
		}
		if i != c.want {
			t.Errorf("%s: service %d, want %d", c.name, i, c.want)
		}
	}
}

// TestInputs: what one message says is applied in an order in which nothing of it is lost.
func TestInputs(t *testing.T) {
	m := notify.Message{Ready: true, Reloading: true, Watchdog: true, Stopping: true, Trigger: true}
	m.Extend = time.Second
	want := []lifecycle.Input{
		{Extend: time.Second}, {Reloading: true}, {Event: lifecycle.Ready}, {Alive: true}, {Event: lifecycle.Quits},
		{Event: lifecycle.Sick, Why: "sent WATCHDOG=trigger"},
	}
	if got := (Note{Message: m}).Inputs(); !slices.Equal(got, want) {
		t.Errorf("inputs %v, want %v", got, want)
	}
	if got := (Note{}).Inputs(); got != nil {
		t.Errorf("an empty message means %v", got)
	}
}

// TestFaults: each name is reported once, and their number has a limit.
func TestFaults(t *testing.T) {
	var f Faults
	message := func(lines ...string) (m notify.Message) {
		for _, line := range lines {
			m.Ignored = append(m.Ignored, errors.New(line))
		}
		return m
	}
	if got := f.Next(message("A=1: bad", "B=2: bad", "A=3: bad")); len(got) != 2 {
		t.Errorf("reported: %v", got)
	}
	if got := f.Next(message("B=4: bad")); got != nil {
		t.Errorf("reported again: %v", got)
	}
	for i := range 100 {
		f.Next(message(fmt.Sprintf("N%d=x: bad", i)))
	}
	if len(f) != maxFaults {
		t.Errorf("%d names are remembered, want %d", len(f), maxFaults)
	}
}

// TestLimits: a service may leave what its file says; without cgroups the Inbox lets pass what any service may.
func TestLimits(t *testing.T) {
	specs := []spec.Spec{{Name: "a", FDStore: 3}, {Name: "b"}}
	in := New(senders{owners: map[int]string{10: "a", 11: "b"}}, slog.New(slog.DiscardHandler))
	if got := in.mayStore(notify.Sender{PID: 10}); got != 0 {
		t.Errorf("before any service is known: %d", got)
	}
	in.SetLimits(specs)
	for pid, want := range map[int]int{10: 3, 11: 0, 12: 0} {
		if got := in.mayStore(notify.Sender{PID: pid}); got != want {
			t.Errorf("process %d may leave %d, want %d", pid, got, want)
		}
	}
	in = New(senders{}, slog.New(slog.DiscardHandler))
	in.SetLimits(specs)
	if got := in.mayStore(notify.Sender{PID: 12}); got != 3 {
		t.Errorf("without cgroups: %d, want 3", got)
	}
}

// TestInbox: a socket is taken over with the messages in it, and a message arrives with its sender.
func TestInbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	first := New(senders{owners: map[int]string{os.Getpid(): "a"}}, slog.New(slog.DiscardHandler))
	if err := first.Open(""); err == nil || first.Socket() != nil {
		t.Errorf("Open without a path: %v", err)
	}
	if err := first.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Setenv(notify.Variable, path)
	if err := notify.Send("READY=1\nSTATUS=first"); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(first.Socket().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	second := New(senders{owners: map[int]string{os.Getpid(): "a"}}, slog.New(slog.DiscardHandler))
	if err := second.Restore(fd, path); err != nil {
		t.Fatal(err)
	}
	if err := second.Open(path); err != nil { // keeps the socket
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- second.Run(ctx) }()
	n := testenv.Receive(t, "the message", second.C())
	i, ok := n.Owner(map[string]int{"a": 0}, []lifecycle.Service{{PID: 7}})
	if !ok || i != 0 || n.Message.Status != "first" {
		t.Errorf("message %+v of service %d, %t", n, i, ok)
	}
	cancel()
	if err := testenv.Receive(t, "the end of Run", ended); err != context.Canceled {
		t.Errorf("Run ends with %v", err)
	}
}
