package osctl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/boot"
	"resinos/services/control"
	"resinos/services/logd"
	"resinos/services/logpipe"
	"resinos/services/logquery"
	"resinos/services/logring"
	"resinos/services/supervise"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

var services = []supervise.ServiceStatus{
	{Name: "logd", State: "up", PID: 61, Since: 1.9, Type: "simple"},
	{Name: "containerd", State: "up", PID: 1234, Since: 3.1, Restarts: 2, LastExit: "killed by SIGKILL"},
	{Name: "netd", State: "up", PID: 77, Since: 2, Text: "1 lease\x1b[31m"},
	{Name: "seed", State: "done", Since: 2.5, LastExit: "exited with status 0"},
	{Name: "manager", State: "backoff", Since: 3600, Restarts: 11, Reason: "exited with status 1", RetryIn: 1.6},
	{Name: "sshd", State: "failed", Since: 90_000, Restarts: 5, Reason: "gave up after 5 tries"},
}

var report = boot.Report{
	Milestones: map[string]float64{"pid1": 1.7, "root": 2.031, "lease": 4.5, "container_output": 5.932},
	Steps: []boot.Step{
		{Stage: "initramfs", Name: "mount pseudo file systems", Start: 1.701, Duration: 0.003, Result: "ok"},
		{Stage: "initramfs", Name: "load modules", Start: 1.704, Duration: 0.212, Result: "ok"},
		{Stage: "root", Name: "read config.json", Start: 2.04, Duration: 0.001, Result: "ignored", Error: "open config.json: no such file"},
		{Stage: "root", Name: "attach data", Start: 2.1, Duration: 1.5, Result: "degraded", Error: "mount \x1b]0;bad\a"},
	},
	Slot: "A", Disk: "vda",
}

// fake is a PID 1 that answers from memory.
func fake(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	named := func(state string) control.Handler {
		return func(_ context.Context, raw json.RawMessage) (any, error) {
			var a target
			if err := control.Args(raw, &a); err != nil {
				return nil, err
			}
			if a.Name == "nobody" {
				return nil, &control.Error{Text: `no service "nobody"`, Hint: "try: osctl status"}
			}
			return supervise.ServiceStatus{Name: a.Name, State: state, PID: 5}, nil
		}
	}
	value := func(v any) control.Handler {
		return func(context.Context, json.RawMessage) (any, error) { return v, nil }
	}
	handlers := map[string]control.Handler{
		"status": value(services), "boot": value(report), "plan": value(boot.Plan(boot.Inputs{Variant: "production"})[:2]), "start": named("up"), "stop": named("down"),
		"restart": named("up"), "kill": named("backoff"), "power": value(nil),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		control.Serve(ctx, path, handlers, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { cancel(); <-done })
	for range 500 {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("control socket did not appear")
	return ""
}

// call runs one command line against the fake and returns all that can be seen of it.
func call(t *testing.T, path string, colour bool, args ...string) string {
	t.Helper()
	var out, talk bytes.Buffer
	s := &session{
		Env:    Env{Stdout: &out, Stderr: &talk, Control: path, Log: path + ".log"},
		colour: colour, now: func() time.Duration { return 93_784 * time.Second },
	}
	code := s.main(t.Context(), args)
	return fmt.Sprintf("$ osctl %s\n%s--- stderr\n%s--- exit %d\n", strings.Join(args, " "), out.String(), talk.String(), code)
}

func TestGolden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the control socket answers nobody else")
	}
	path := fake(t)
	for name, lines := range map[string][]string{
		"status":        {"status", "status netd sshd", "status nobody", "status --json logd", "status -json -- logd"},
		"boot":          {"boot", "boot --json", "boot now"},
		"plan":          {"plan", "plan -json", "plan now"},
		"change":        {"start netd", "stop netd sshd", "restart logd", "restart -n logd", "kill netd", "kill netd -n -signal HUP", "start nobody", "start", "reboot -n", "poweroff", "reboot now"},
		"help":          {"help", "help logs", "help kill", "help boot", "status -h", "help nothing", "", "stat", "logs -x", "logs hello", "logs -p loud", "logs -n many", "logs -b 7", "logs --since soon", "logs -o xml", "--help"},
		"status_colour": {"status"},
		"boot_colour":   {"boot"},
	} {
		t.Run(name, func(t *testing.T) {
			var all strings.Builder
			for _, line := range lines {
				all.WriteString(call(t, path, strings.HasSuffix(name, "_colour"), strings.Fields(line)...))
			}
			golden(t, name, all.String())
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	got := call(t, filepath.Join(t.TempDir(), "missing"), false, "status")
	if !strings.Contains(got, "PID 1 does not answer") || !strings.Contains(got, "resinOS device") || !strings.HasSuffix(got, "exit 1\n") {
		t.Error(got)
	}
	got = call(t, filepath.Join(t.TempDir(), "missing"), false, "logs")
	if !strings.Contains(got, "logd does not answer") || !strings.Contains(got, "try: osctl status logd") {
		t.Error(got)
	}
}

func TestShort(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	entries := []logring.Entry{
		{Time: at, Name: "hello.web", Priority: 6, Message: "plain\ttab é 日本"},
		{Time: at, Name: "kernel", Priority: 3, Message: "\x1b[2Jclear\a\r\n", PID: 7},
		{Time: at, Name: "a", Priority: 4, Message: "bin\xff\x00\u202e\u009b", Cut: true},
		{Time: at, Name: "a", Priority: 7},
	}
	var all strings.Builder
	for _, colour := range []bool{false, true} {
		for _, e := range entries {
			all.WriteString((&session{colour: colour}).short(&e))
		}
	}
	golden(t, "logs", all.String())
}

func TestBootValue(t *testing.T) {
	for args, want := range map[string]string{
		"-b": "-b 0", "-b -f": "-b 0 -f", "-b -1 -f": "-b -1 -f", "--b -u x": "--b 0 -u x", "-b 01ab -n 3": "-b 01ab -n 3", "-f -- -b": "-f -- -b", "": "", "-b=-1": "-b=-1",
	} {
		if got := strings.Join(bootValue(strings.Fields(args)), " "); got != want {
			t.Errorf("bootValue(%q) = %q, want %q", args, got, want)
		}
	}
}

func TestBootTable(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	golden(t, "boots", (&session{}).bootTable([]logquery.Span{
		{Number: -1, ID: "b1aa0000-0000-0000-0000-000000000000", First: at, Last: at.Add(time.Hour)},
		{Number: 0, ID: "b2aa0000-0000-0000-0000-000000000000", First: at.AddDate(0, 0, 1), Last: at.AddDate(0, 0, 2)},
	}))
}

func FuzzEscape(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[31m\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range escape(text) {
			if !printable(r) {
				t.Errorf("escape(%q) = %q", text, escape(text))
			}
		}
	})
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 999 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1min",
		61 * time.Second: "1min 1s", 3*time.Hour + 59*time.Second: "3h", 49*time.Hour + 59*time.Minute: "2d 1h",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
}

// The whole way, with a real logd.
func TestLogs(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root: logd answers nobody else")
		}
		t.Skip("needs root: logd answers nobody else")
	}
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
	for _, s := range []logpipe.Source{
		{Kind: logpipe.Container, Name: "hello.web", Stream: logpipe.Stdout}, {Kind: logpipe.Service, Name: "netd", Stream: logpipe.Log},
	} {
		file, err := logpipe.Open(cfg.Dir, s)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fmt.Fprintf(file, "<3>from %s\nsecond of %s\n", s.Name, s.Name)
	}
	osctl := func(args ...string) string {
		var out, talk bytes.Buffer
		code := Main(ctx, Env{Stdout: &out, Stderr: &talk, Log: cfg.Socket}, append([]string{"logs"}, args...))
		if code != 0 {
			t.Errorf("logs %q: exit %d, %s", args, code, talk.String())
		}
		return out.String() + talk.String()
	}
	for strings.Count(osctl(), "\n") < 4 {
		time.Sleep(10 * time.Millisecond)
	}
	for _, test := range []struct{ args, has, lacks string }{
		{"-u hello", "hello.web: from hello.web\n", "netd"},
		{"-u hello.web -n 1", "hello.web: second", "from"},
		{"-n 1 -u netd -p err", "netd: from netd", "second"},
		{"-u hell", "no entries", "hello"},
		{"-k", "no entries", "hello"},
		{"-n 0", "no entries", "hello"},
		{"--json -u netd -n 1", `"kind":"service","name":"netd","stream":"log","priority":6,"message":"second of netd"}`, "hello"},
		{"-o json -u netd -n 1", `"message":"second of netd"}`, "hello"},
		{"-o cat -u hello -u netd -p err", "from hello.web\nfrom netd\n", "second"},
		{"-b -u netd", "netd: second", "hello"},
		{"-u netd -b 0 -n 1", "netd: second", "hello"},
		{"--since -5min --until now -n 1 -u netd", "netd: second", "hello"},
		{"--until boot+1s", "no entries", "hello"},
		{"--boots", "   0  ", "hello"},
		{"--boots -json", `"number": 0`, "hello"},
	} {
		got := osctl(strings.Fields(test.args)...)
		if !strings.Contains(got, test.has) || strings.Contains(got, test.lacks) {
			t.Errorf("logs %s:\n%s", test.args, got)
		}
	}
}
