package status

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/services/log/entry"
	"resinos/services/pid1"
)

func TestGolden(t *testing.T) {
	place := clitest.Place{Main: commands(), Control: clitest.PID1(t)}
	place.Golden(t, "status", "status", "status netd sshd", "status logd", "status nobody", "status netf",
		"status --json logd", "status -json -- logd")
	on := func(s screen.Screen) clitest.Place { place.Screen = s; return place }
	on(screen.Screen{Colour: true}).Golden(t, "status_colour", "status", "status netd")
	on(screen.Screen{Columns: 40}).Golden(t, "narrow", "status", "status netd")
	on(screen.Screen{Columns: 100, Fancy: true}).Golden(t, "wide", "status")
}

// TestRemoved: that an owner has taken a service away is no fault of the device.
func TestRemoved(t *testing.T) {
	s := &session{&cli.Session{}}
	leaves := pid1.ServiceStatus{Name: "shop", State: "stopping", Removed: true}
	in := inventory.Inventory{Services: []pid1.ServiceStatus{leaves}}
	if got := s.health(host{}, in); got != "well: 1 service, 1 stopping" {
		t.Errorf("health = %q", got)
	}
	if got := note(&leaves); got != "file removed: it stops" {
		t.Errorf("note = %q", got)
	}
}

func TestLogLinesAreCut(t *testing.T) {
	terminal := screen.Screen{Columns: 30, Fancy: true, Colour: true}
	s := &session{&cli.Session{Screen: terminal, Now: func() time.Duration { return 0 }}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := detail{ServiceStatus: &clitest.Services()[0], log: []entry.Entry{
		{Time: at, Name: "a", Priority: 3, Message: "short"}, {Time: at, Name: "a", Message: "a\tmuch longer one"},
	}}
	text := s.detailText(&d)
	if !strings.Contains(text, "\x1b[31mshort") || !strings.Contains(text, "Jan 02 03:04:05.000 a: a much…\n") {
		t.Errorf("%q", text)
	}
}

// A definition may be as wrong as it likes: nothing may hang or leave a service out.
func TestCyclesAreDrawn(t *testing.T) {
	list := []pid1.ServiceStatus{
		{Name: "a", State: "down", Needs: []string{"b", "a"}}, {Name: "b", State: "down", Needs: []string{"c"}},
		{Name: "c", State: "down", Needs: []string{"b"}},
		{Name: "d", State: "up", Needs: []string{"e"}}, {Name: "e", State: "failed", Needs: []string{"d"}},
	}
	s := &session{&cli.Session{Now: func() time.Duration { return 0 }}}
	text := s.statusTable(list, func(string) int64 { return -1 })
	for _, st := range list {
		if !strings.Contains(text, st.Name+" ") {
			t.Errorf("service %s is not in\n%s", st.Name, text)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	got := clitest.Place{Main: commands(), Control: missing}.Call(t, "status")
	if !strings.Contains(got, "PID 1 does not answer") || !strings.Contains(got, "resinOS device") ||
		!strings.HasSuffix(got, "exit 1\n") {
		t.Error(got)
	}
}
