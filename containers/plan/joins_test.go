package plan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/containers/app"
	"resinos/containers/restart"
)

// joining is shop.web, which uses the network of shop.vpn.
func joining(web, vpn Have, records map[string]restart.Record) Input {
	want := func(service string) Want {
		return Want{Container: app.Container{App: "shop", Service: service, Image: "x",
			Restart: app.Restart{Policy: app.Always}}}
	}
	a, b := want("vpn"), want("web")
	b.Joins = map[string]string{"network": "vpn"}
	vpn.App, vpn.Wish, web.App, web.Wish = "shop", a.Digest(), "shop", b.Digest()
	return Input{Wanted: []Want{a, b}, Records: records,
		State: State{Containers: map[string]Have{"shop.vpn": vpn, "shop.web": web},
			Images: map[string]string{"x": "d"}}}
}

// TestJoins: a container whose namespaces are those of another one starts only while that runs, whoever asks for it,
// and is started again after that was.
func TestJoins(t *testing.T) {
	ended := restart.Record{Starts: 1, Status: 1, Ended: time.Hour}
	runs := restart.Record{Starts: 1, Running: true}
	for _, c := range []struct {
		name     string
		web, vpn Have
		records  map[string]restart.Record
		want     string // of the step of web
		failed   bool
		parted   bool
	}{
		{"both are new", Have{}, Have{}, nil,
			"wait (waits for shop.vpn to run, whose network it uses)", false, false},
		{"the other one runs", Have{}, Have{Task: Running, PID: 7}, map[string]restart.Record{"shop.vpn": runs},
			"start", false, false},
		{"a policy starts it again", Have{}, Have{}, map[string]restart.Record{"shop.vpn": ended, "shop.web": ended},
			"wait", false, false},
		{"the other one is held", Have{}, Have{},
			map[string]restart.Record{"shop.vpn": {Starts: 1, Held: true}, "shop.web": ended}, "wait", true, false},
		{"together", Have{Task: Running, Joined: map[string]int{"shop.vpn": 7}}, Have{Task: Running, PID: 7},
			map[string]restart.Record{"shop.vpn": runs, "shop.web": runs}, "", false, false},
		{"the other one was started again", Have{Task: Running, Joined: map[string]int{"shop.vpn": 7}},
			Have{Task: Running, PID: 8}, map[string]restart.Record{"shop.vpn": runs, "shop.web": runs}, "", false,
			true},
		{"the other one ended", Have{Task: Running, Joined: map[string]int{"shop.vpn": 7}}, Have{},
			map[string]restart.Record{"shop.vpn": ended, "shop.web": runs}, "", false, false},
		{"the other one does not answer", Have{Task: Running, Joined: map[string]int{"shop.vpn": 7}},
			Have{Task: Unknown}, map[string]restart.Record{"shop.vpn": runs, "shop.web": runs}, "", false, false},
	} {
		in := joining(c.web, c.vpn, c.records)
		got, failed := "", false
		for _, s := range Make(in) {
			if s.Container == "shop.web" && s.Verb != Note {
				got, failed = strings.TrimPrefix(s.String(), "shop.web: "), s.Failed
			}
		}
		if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") || failed != c.failed {
			t.Errorf("%s: %q, failed %v; want %q, %v", c.name, got, failed, c.want, c.failed)
		}
		if parted := slices.Contains(Parted(in), "shop.web"); parted != c.parted {
			t.Errorf("%s: parted %v", c.name, parted)
		}
	}
}
