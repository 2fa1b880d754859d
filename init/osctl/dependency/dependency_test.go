package dependency

import (
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

func TestGolden(t *testing.T) {
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"graph": Show}), Control: clitest.PID1(t)}
	place.Golden(t, "graph", "graph", "graph manager", "graph --reverse logd", "graph --dot",
		"graph --reverse --dot containerd", "graph --json manager", "graph nobody", "graph a b")
	place.Screen = screen.Screen{Columns: 40}
	place.Golden(t, "narrow", "graph")
	place.Screen = screen.Screen{Columns: 100, Fancy: true}
	place.Golden(t, "wide", "graph manager")
}

// TestCyclesAreDrawn: a definition may be as wrong as it likes: nothing may hang or leave a service out.
func TestCyclesAreDrawn(t *testing.T) {
	list := []pid1.ServiceStatus{
		{Name: "a", State: "down", Needs: []string{"b", "a"}}, {Name: "b", State: "down", Needs: []string{"c"}},
		{Name: "c", State: "down", Needs: []string{"b"}}, {Name: "d", State: "up", Needs: []string{"e"}},
		{Name: "e", State: "failed", Needs: []string{"d"}},
	}
	s := &session{&cli.Session{}}
	for _, reverse := range []bool{false, true} {
		text := s.graphText(newTies(list, reverse), newTies(list, reverse).roots())
		for _, st := range list {
			if !strings.Contains(text, st.Name+" ") {
				t.Errorf("service %s is not in\n%s", st.Name, text)
			}
		}
	}
}
