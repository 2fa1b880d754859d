package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/screen"
	"resinos/init/osctl/storage"
	"resinos/mounts/testenv"
	"resinos/services/log/entry"
	"resinos/services/log/logd"
	"resinos/services/log/pipe"
	"resinos/services/log/query"
)

func commands() clitest.Main { return clitest.Commands(map[string]cli.Run{"logs": Show}) }

func TestLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	entries := []entry.Entry{
		{Time: at, Name: "hello.web", Priority: 6, Message: "plain\ttab é 日本"},
		{Time: at, Name: "kernel", Priority: 3, Message: "\x1b[2Jclear\a\r\n", PID: 7},
		{Time: at, Name: "a", Priority: 4, Message: "bin\xff\x00\u202e\u009b", Cut: true},
		{Time: at, Name: "a", Priority: 7},
	}
	var all strings.Builder
	for _, colour := range []bool{false, true} {
		for _, e := range entries {
			all.WriteString(Line(&screen.Screen{Colour: colour}, &e))
		}
	}
	testenv.Golden(t, "logs.golden", all.String())
}

func TestBootValue(t *testing.T) {
	for args, want := range map[string]string{
		"-b": "-b 0", "-b -f": "-b 0 -f", "-b -1 -f": "-b -1 -f", "--b -u x": "--b 0 -u x",
		"-b 01ab --lines 3": "-b 01ab --lines 3", "-f -- -b": "-f -- -b", "": "", "-b=-1": "-b=-1",
	} {
		if got := strings.Join(bootValue(strings.Fields(args)), " "); got != want {
			t.Errorf("bootValue(%q) = %q, want %q", args, got, want)
		}
	}
}

func TestBootTable(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testenv.Golden(t, "boots.golden", (&session{&cli.Session{}}).bootTable([]query.Span{
		{Number: -1, ID: "b1aa0000-0000-0000-0000-000000000000", First: at, Last: at.Add(time.Hour)},
		{Number: 0, ID: "b2aa0000-0000-0000-0000-000000000000", First: at.AddDate(0, 0, 1), Last: at.AddDate(0, 0, 2)},
	}))
}

// The whole way, with a real logd.
func TestLogs(t *testing.T) {
	testenv.NeedRoot(t, "a logd that answers nobody else")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	cfg := logd.Config{
		Dir: filepath.Join(dir, "log"), RingDir: filepath.Join(dir, "ring"), Socket: filepath.Join(dir, "sock"),
		Kmsg: logd.NoKmsg, Syslog: logd.NoSyslog, Ready: func() { close(ready) },
	}
	go func() { done <- logd.Run(ctx, cfg) }()
	<-ready
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, s := range []pipe.Source{
		{Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout},
		{Kind: pipe.Service, Name: "netd", Stream: pipe.Log},
	} {
		file, err := pipe.Open(cfg.Dir, s)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fmt.Fprintf(file, "<3>from %s\nsecond of %s\n", s.Name, s.Name)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, storage.AppsDir, "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := 0
	place := clitest.Place{Main: commands(), Log: cfg.Socket, Control: clitest.PID1(t), Root: root}
	osctl := func(args ...string) string {
		code, out, talk := place.Do(t, append([]string{"logs"}, args...)...)
		if code != want {
			t.Errorf("logs %q: exit %d, %s", args, code, talk)
		}
		return out + talk
	}
	testenv.WaitFor(t, "four lines of the log", func() bool { return strings.Count(osctl(), "\n") >= 4 })
	for _, test := range []struct{ args, has, lacks string }{
		{"-u hello", "hello.web: from hello.web\n", "netd"},
		{"-u hello.web --lines 1", "hello.web: second", "from"},
		{"--lines 1 -u netd -p err", "netd: from netd", "second"},
		{"-k", "no entries", "hello"},
		{"--lines 0", "no entries", "hello"},
		{"--json -u netd --lines 1",
			`"kind":"service","name":"netd","stream":"log","priority":6,"message":"second of netd"}`, "hello"},
		{"-o json -u netd --lines 1", `"message":"second of netd"}`, "hello"},
		{"-o cat -u hello -u netd -p err", "from hello.web\nfrom netd\n", "second"},
		{"-b -u netd", "netd: second", "hello"},
		{"-u netd -b 0 --lines 1", "netd: second", "hello"},
		{"--since -5min --until now --lines 1 -u netd", "netd: second", "hello"},
		{"--until boot+1s", "no entries", "hello"},
		{"--boots", "   0  ", "hello"},
		{"--boots -json", `"number": 0`, "hello"},
	} {
		got := osctl(strings.Fields(test.args)...)
		if !strings.Contains(got, test.has) || strings.Contains(got, test.lacks) {
			t.Errorf("logs %s:\n%s", test.args, got)
		}
	}
	// A name that is there and has said nothing is no fault; one that is nowhere is.
	for _, args := range []string{"-u shop", "-u shop.web", "-u manager", "-u hello -p emerg"} {
		if got := osctl(strings.Fields(args)...); !strings.Contains(got, "no entries") {
			t.Errorf("logs %s:\n%s", args, got)
		}
	}
	want = cli.ExitFailed
	for args, says := range map[string]string{
		"-u hell": "is called hell\ndid you mean hello?",
		"-u netf": "did you mean netd?",
		"-u netd -u zzzzzz": "second of netd\n" +
			"osctl: no service, app or syslog tag is called zzzzzz\ntry: osctl status",
	} {
		if got := osctl(strings.Fields(args)...); !strings.Contains(got, says) {
			t.Errorf("logs %s:\n%s", args, got)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	got := clitest.Place{Main: commands(), Log: missing}.Call(t, "logs")
	if !strings.Contains(got, "logd does not answer") || !strings.Contains(got, "try: osctl status logd") {
		t.Error(got)
	}
}
