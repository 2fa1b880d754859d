package dependency

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/picture/picturetest"
	"resinos/services/pid1"
)

// TestPictureGolden: the services of the device of all tests, byte for byte, some of them, and what cannot be asked
// for.
func TestPictureGolden(t *testing.T) {
	commands := clitest.Commands(map[string]cli.Run{"graph": Show, "picture": Picture})
	become := func(ctx context.Context, s *cli.Session, args []string) int {
		s.Become = func(name, program string, args, _ []string) error {
			return fmt.Errorf("become %s of %s %q", program, name, args)
		}
		return commands(ctx, s, args)
	}
	place := clitest.Place{Main: become, Control: clitest.PID1(t)}
	place.Golden(t, "picture", "graph --svg", "graph --svg --reverse logd", "graph --svg --json", "graph --dot --svg",
		"picture", "picture nobody")
	read := func(args ...string) []string {
		_, svg, _ := place.Do(t, args...)
		return picturetest.Check(t, svg)
	}
	texts := read("picture")
	for _, st := range clitest.Services() {
		if !slices.Contains(texts, st.Name) {
			t.Errorf("service %s is not in %q", st.Name, texts)
		}
	}
	if want := "backoff; needs containerd; after netd"; !slices.Contains(texts, want) {
		t.Errorf("nothing says %q in %q", want, texts)
	}
	for command, want := range map[string]string{
		"picture manager": "logd containerd netd manager", "picture --reverse till": "till bell",
	} {
		var names []string
		for _, text := range read(strings.Fields(command)...) {
			if slices.ContainsFunc(clitest.Services(), func(st pid1.ServiceStatus) bool { return st.Name == text }) {
				names = append(names, text)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has the services %q, want %q", command, got, want)
		}
	}
}

// TestStartOrder: a service comes after those that it depends on, and a cycle leaves none out.
func TestStartOrder(t *testing.T) {
	list := []pid1.ServiceStatus{
		{Name: "a", Needs: []string{"c"}}, {Name: "b", Needs: []string{"b"}}, {Name: "c", Wants: []string{"d"}},
		{Name: "d", After: []string{"e"}}, {Name: "e", Needs: []string{"d"}}, {Name: "f"},
	}
	g := newTies(list, false)
	var names []string
	for _, i := range g.startOrder(g.reach(g.roots())) {
		names = append(names, list[i].Name)
	}
	if got, want := strings.Join(names, ""), "edcabf"; got != want {
		t.Errorf("start order = %s, want %s", got, want)
	}
}

// TestTracksAreApart: no two services have the same place in the same row.
func TestTracksAreApart(t *testing.T) {
	c := &chart{ties: newTies(crowd(60), false)}
	c.order = c.ties.startOrder(c.ties.reach(c.ties.roots()))
	c.row = make([]int, len(c.order))
	for at, i := range c.order {
		c.row[i] = at
	}
	if left := c.lay(); len(c.tracks) != mostTracks || left != 60-1-mostTracks {
		t.Errorf("%d services have a track and %d have none, want %d and %d", len(c.tracks), left, mostTracks,
			60-1-mostTracks)
	}
	for i, a := range c.tracks {
		for _, b := range c.tracks[:i] {
			if a.place == b.place && a.from <= b.to && b.from <= a.to {
				t.Errorf("tracks %+v and %+v meet", a, b)
			}
		}
	}
}

// crowd are services of which each needs all before it.
func crowd(n int) []pid1.ServiceStatus {
	var list []pid1.ServiceStatus
	var before []string
	for i := range n {
		st := pid1.ServiceStatus{Name: fmt.Sprintf("%d%s", i, strings.Repeat("<&日\x1b", 99)), State: "up",
			Description: strings.Repeat("&", 9999)}
		switch i % 3 {
		case 0:
			st.Needs = slices.Clone(before)
		case 1:
			st.Wants = slices.Clone(before)
		default:
			st.After = slices.Clone(before)
		}
		list, before = append(list, st), append(before, st.Name)
	}
	return list
}

// TestPictureOfBadServices: whatever the services are, the picture is whole and of bounded size.
func TestPictureOfBadServices(t *testing.T) {
	ring := []pid1.ServiceStatus{{Name: "a", Needs: []string{"b", "a"}}, {Name: "b", Wants: []string{"c"}},
		{Name: "c", After: []string{"a"}}}
	for name, list := range map[string][]pid1.ServiceStatus{"nothing": nil, "one": ring[:1], "ring": ring,
		"crowd": crowd(300)} {
		t.Run(name, func(t *testing.T) {
			g := newTies(list, false)
			picturetest.Check(t, g.svg(g.roots()))
		})
	}
}

// FuzzPicture: no name, state or description breaks the picture.
func FuzzPicture(f *testing.F) {
	f.Add("netd", "logd", "up")
	f.Add("]]><script>\x1b[31m\u202e\xff", "&<>\"'", "\x00")
	f.Add(strings.Repeat("\u0301日W", 99), "", "backoff")
	f.Fuzz(func(t *testing.T, one, other, state string) {
		list := []pid1.ServiceStatus{
			{Name: one, State: state, Needs: []string{other}, Description: other}, {Name: other, State: state},
			{Name: one + other, State: "up", Wants: []string{one}, After: []string{other}, Description: state},
		}
		g := newTies(list, false)
		picturetest.Check(t, g.svg(g.roots()))
	})
}
