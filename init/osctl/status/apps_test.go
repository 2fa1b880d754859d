package status

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/containers/appstatus"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

var apps = appstatus.Status{Written: 93_700, Apps: []appstatus.App{
	{Name: "broken", State: appstatus.GivenUp, Entered: 9, Trouble: appstatus.Trouble{Cause: appstatus.NotUnderstood,
		Reason: "cannot be read: compose.yaml:3: web: not a mapping\x1b", Since: 9}},
	{Name: "hello", Containers: []appstatus.Container{{Name: "web", ID: "hello.web", Image: "resinos/hello:latest",
		Policy: "always", State: appstatus.Up, Entered: 6}}},
	{Name: "jobs", Containers: []appstatus.Container{
		{Name: "clean", ID: "jobs.clean", Policy: "no", State: appstatus.Done, Entered: 60,
			LastExit: "exited with status 0", LastAt: 60},
		{Name: "mail", ID: "jobs.mail", Policy: "always", State: appstatus.Up, Entered: 93_000, Restarts: 2,
			LastExit: "out of memory", LastAt: 92_999, Kills: 1, Health: "failed 2 times"},
	}},
	{Name: "shop", Containers: []appstatus.Container{
		{Name: "db", ID: "shop.db", Policy: "always", State: appstatus.Backoff, Entered: 93_780, Restarts: 41,
			LastExit: "exited with status 1", LastAt: 93_780,
			Trouble: appstatus.Trouble{Cause: appstatus.CrashLoop, Since: 92_000,
				Reason: "crash loop: ended 42 times in a row within 10s of its start, last: exited with status 1"}},
		{Name: "front", ID: "shop.front", Policy: "always", State: appstatus.Starting, Entered: 93_700},
	}},
}}

// deviceWithApps is a device whose manager has reported apps.
func deviceWithApps(t *testing.T) string {
	t.Helper()
	root := clitest.Device(t)
	for i := range apps.Apps {
		apps.Apps[i].Sum()
	}
	path := filepath.Join(root, appstatus.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := appstatus.Publish(path, apps); err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(root, "sys/fs/cgroup/resinos/containers/hello.web")
	if err := os.WriteFile(filepath.Join(group, "memory.current"), []byte("1258291\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func commands() clitest.Main { return clitest.Commands(map[string]cli.Run{"status": Show}) }

func TestAppsGolden(t *testing.T) {
	place := clitest.Place{Main: commands(), Root: deviceWithApps(t), Control: clitest.PID1(t)}
	place.Golden(t, "apps", "status", "status hello", "status jobs", "status shop/db", "status shop.db",
		"status broken",
		"status netd hello/web", "status helo", "status hello/x", "status --json shop netd")
	place.Screen = screen.Screen{Columns: 40, Colour: true}
	place.Golden(t, "apps_narrow", "status")
}

// TestAppsCount: what is wrong with an app makes the device degraded, and what cannot be known is said; neither hides
// the other.
func TestAppsCount(t *testing.T) {
	up := []pid1.ServiceStatus{{Name: "manager", State: "up", PID: 5}}
	good := appstatus.App{Name: "a", State: appstatus.Up}
	bad := appstatus.App{Name: "b", State: appstatus.GivenUp,
		Trouble: appstatus.Trouble{Cause: appstatus.NotUnderstood, Reason: "x"}}
	for _, c := range []struct {
		name     string
		services []pid1.ServiceStatus
		file     any    // nil: none
		health   string // the line of counts
		caveat   string
	}{
		{"well", up, appstatus.Status{Apps: []appstatus.App{good}}, "well: 1 service, 1 up; 1 app, 1 up", ""},
		{"an app is wrong", up, appstatus.Status{Apps: []appstatus.App{good, bad}},
			"degraded: 1 service, 1 up; 2 apps, 1 wrong, 1 failed, 1 up", ""},
		{"no apps", up, appstatus.Status{}, "well: 1 service, 1 up", ""},
		{"nothing reported yet", up, nil, "well: 1 service, 1 up", "the manager has not reported its apps yet"},
		{"the manager was stopped", []pid1.ServiceStatus{{Name: "manager", State: "down"}},
			appstatus.Status{Written: 60, Apps: []appstatus.App{good}},
			"well: 1 service, 1 down; 1 app, 1 up", "the manager is down: the apps are shown as of 4s ago"},
		{"the manager never ran", []pid1.ServiceStatus{{Name: "manager", State: "failed"}}, nil,
			"degraded: 1 service, 1 failed", "the manager is failed: nothing is known of the apps"},
		{"no engine", up, appstatus.Status{Trouble: appstatus.Trouble{Cause: appstatus.NoEngine,
			Reason: "the engine is gone", Since: 34}, Apps: []appstatus.App{good}},
			"degraded: 1 service, 1 up; 1 app, 1 up", "the engine is gone; wrong for 30s"},
		{"garbage", up, "{", "degraded: 1 service, 1 up", "read the status of apps: "},
		{"an image without a manager", []pid1.ServiceStatus{{Name: "logd", State: "up"}}, nil, "well: 1 service, 1 up",
			""},
	} {
		root := t.TempDir()
		if c.file != nil {
			text, err := json.Marshal(c.file)
			if garbage, is := c.file.(string); is {
				text = []byte(garbage)
			}
			if err == nil {
				err = os.MkdirAll(filepath.Join(root, "run/resinos"), 0o755)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(root, appstatus.Path), text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		now := func() time.Duration { return 64 * time.Second }
		s := &session{&cli.Session{Env: cli.Env{Root: root}, Now: now}}
		read := inventory.Read(root, c.services)
		if got := s.health(host{}, read); got != c.health {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.health)
		}
		if got := s.caveat(read.Caveat); c.caveat == "" && got != "" || !strings.HasPrefix(got, c.caveat) {
			t.Errorf("%s: caveat %q, want %q", c.name, got, c.caveat)
		}
		if (read.Caveat.Text != "") != strings.Contains(s.appTable(read), "apps: ") {
			t.Errorf("%s: the caveat is not shown", c.name)
		}
	}
}
