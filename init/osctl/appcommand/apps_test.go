package appcommand

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
)

func TestSplit(t *testing.T) {
	for line, want := range map[string]string{
		"-it a.b sh -it":         "-i -t a.b sh -it", // behind the container flags are the command's
		"-ti -u root a.b ls -l":  "-i -t -u root a.b ls -l",
		"-e -it -i a.b env":      "-e -it -i a.b env",
		"a.b sh -c echo":         "a.b sh -c echo",
		"-w /tmp -t a.b tee -it": "-w /tmp -t a.b tee -it",
	} {
		if got := strings.Join(split(strings.Fields(line)), " "); got != want {
			t.Errorf("split(%q) = %q, want %q", line, got, want)
		}
	}
}

// TestPick: a name that is nothing's is refused with what there is instead.
func TestPick(t *testing.T) {
	status := appstatus.Status{Apps: []appstatus.App{
		{Name: "hello", Containers: []appstatus.Container{{Name: "web", ID: "hello.web"}}},
		{Name: "shop", Containers: []appstatus.Container{{Name: "db", ID: "shop.db"}, {Name: "web", ID: "shop.web"}}},
	}}
	for name, want := range map[string]string{
		"": "hello.web shop.db shop.web", "shop": "shop.db shop.web", "shop.db": "shop.db", "shop/web": "shop.web",
		"shopp": `no app "shopp"`, "shop.dc": `app shop has no container "dc"`,
	} {
		list, err := pick(status, name)
		var ids []string
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		got := strings.Join(ids, " ")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("pick(%q) = %s, want %s", name, got, want)
		}
	}
}

// TestState: of a container whose image is on its way, ps says how much has come, also while the old one runs.
func TestState(t *testing.T) {
	s := &cli.Session{Now: func() time.Duration { return 65 * time.Second }}
	half := &appstatus.Pull{Done: 10_000_000, Size: 20_000_000}
	fault := appstatus.Trouble{Cause: appstatus.NotAsWanted, Reason: "pull x: no such image"}
	for want, c := range map[string]appstatus.Container{
		"starting 5s, pulling 10 of 20 MB": {State: appstatus.Starting, Pull: half},
		"up 5s, pulling 10 of 20 MB":       {State: appstatus.Up, Pull: half},
		"restarting 5s: pull x: no such image, pulling": {
			State: appstatus.Backoff, Trouble: fault, Pull: &appstatus.Pull{}},
		"stopped 5s, exited with status 143": {
			State: appstatus.Halted, LastExit: "exited with status 143"},
		"up 5s, 2 restarts": {State: appstatus.Up, Restarts: 2, LastExit: "exited with status 1"},
	} {
		c.Entered = 60
		if got := state(s, &c); got != want {
			t.Errorf("state = %q, want %q", got, want)
		}
	}
}

func TestRates(t *testing.T) {
	before := []measured{{"a", gauge.Usage{CPU: time.Second}}, {"b", gauge.Usage{CPU: time.Minute}}}
	now := []measured{{"a", gauge.Usage{CPU: 2 * time.Second}}, {"b", gauge.Usage{CPU: time.Second}},
		{"c", gauge.Usage{}}}
	var got []float64
	for _, u := range rates(before, now, 2*time.Second) {
		got = append(got, u.CPU)
	}
	if want := []float64{50, -1, -1}; !slices.Equal(got, want) { // b was started again, c is new
		t.Errorf("rates = %v, want %v", got, want)
	}
}

func TestParsePlace(t *testing.T) {
	for arg, want := range map[string]place{
		"shop.web:/etc/x": {"shop.web", "/etc/x"}, "shop/web:x": {"shop/web", "x"}, "-": {path: "-"}, "x": {path: "x"},
		"/a:b": {path: "/a:b"}, "./a:b": {path: "./a:b"}, "../a:b": {path: "../a:b"}, ":x": {path: ":x"},
		"shop.web:": {"shop.web", ""},
	} {
		if got := parsePlace(arg); got != want {
			t.Errorf("parsePlace(%q) = %+v, want %+v", arg, got, want)
		}
	}
}

// TestPulls: who waits for an app sees which of its images are on their way.
func TestPulls(t *testing.T) {
	s := &cli.Session{Env: cli.Env{Root: t.TempDir()}}
	a := appcontrol.App{App: "shop"}
	if got := pulls(s, a); got != "" {
		t.Errorf("without a status: %q", got)
	}
	path := filepath.Join(s.Root, appstatus.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	err := appstatus.Publish(path, appstatus.Status{Apps: []appstatus.App{
		{Name: "other", Containers: []appstatus.Container{{ID: "other.x", Pull: &appstatus.Pull{Waiting: true}}}},
		{Name: "shop", Containers: []appstatus.Container{{Name: "db", ID: "shop.db"},
			{Name: "web", ID: "shop.web", Pull: &appstatus.Pull{Done: 3e6, Size: 8e6}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := pulls(s, a); got != "shop.web: pulling 3 of 8 MB" {
		t.Errorf("pulls = %q", got)
	}
}
