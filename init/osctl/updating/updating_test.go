package updating

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/updatecontrol"
	"resinos/mounts/testenv"
	"resinos/services/control"
)

// place is a device that booted slot A, with a record and variables.
func place(t *testing.T, r *update.Record, v bootvars.Variables) clitest.Place {
	root := clitest.Device(t)
	variables, err := bootvars.Grub.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"proc/cmdline": "quiet resinos.slot=A\n", "etc/os-release": "VERSION_ID=1.0.0\n",
		"mnt/boot/grubenv":               string(variables),
		"proc/sys/kernel/random/boot_id": "two\n", "mnt/state/x": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r != nil {
		if err := r.Write(filepath.Join(root, update.Path)); err != nil {
			t.Fatal(err)
		}
	}
	return clitest.Place{Main: clitest.Commands(map[string]cli.Run{"update": Update}), Root: root,
		Control: filepath.Join(root, "none")}
}

// TestShow: what a person sees of each standing. Nothing is written: what is to be corrected is only shown.
func TestShow(t *testing.T) {
	began := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	attempt := update.Attempt{Version: "1.1.0", From: "1.0.0", Slot: slot.B, Digest: strings.Repeat("ab", 32),
		State: update.Trial, Began: began,
		ArmedIn: "two"}
	armed := update.Record{Slots: map[slot.Name]update.Content{slot.B: {Version: "1.1.0"}},
		Attempts: []update.Attempt{attempt}}
	failed, confirmed, writing := armed, armed, armed
	failed.Refused = []update.Content{{Version: "1.1.0", Digest: attempt.Digest}}
	attempt.State, attempt.Cause, attempt.Ended = update.Failed, update.Unhealthy, began.Add(time.Hour)
	attempt.Reason, attempt.Log = "check /etc/resinos/health.d/x: exit status 3\nno uplink\x1b[2J",
		[]string{"   12.345 web: cannot bind\x1b[1m"}
	failed.Attempts = []update.Attempt{attempt}
	confirmed.Attempts = []update.Attempt{{Version: "1.0.0", Slot: slot.A, State: update.Confirmed, Began: began,
		Ended: began}}
	writing.Attempts = []update.Attempt{{Version: "1.1.0", From: "1.0.0", Slot: slot.B, State: update.Writing,
		Began: began}}
	trial := update.Arm(bootvars.New(), attempt)
	usedUp := trial
	usedUp.Tries = bootvars.NoTries
	var all strings.Builder
	for _, tt := range []struct {
		name   string
		record *update.Record
		vars   bootvars.Variables
		lines  []string
	}{
		{"none so far", nil, bootvars.New(),
			[]string{"update status", "update status --json", "update history", "update history --json"}},
		{"armed", &armed, trial, []string{"update status"}},
		{"tries used up, not noted yet", &armed, usedUp, []string{"update status"}},
		{"failed", &failed, bootvars.New(), []string{"update status", "update history"}},
		{"confirmed", &confirmed, bootvars.New(), []string{"update status", "update history"}},
		{"writing was interrupted", &writing, bootvars.New(), []string{"update status"}},
		{"slot B was booted last time", nil, bootvars.Variables{Slot: slot.B}, []string{"update status"}},
		{"wrong usage", nil, bootvars.New(), []string{"update", "update a b", "update -x"}},
		{"no updater", nil, bootvars.New(),
			[]string{"update http://x/y", "update confirm", "update rollback", "update confirm -n"}},
	} {
		for _, line := range tt.lines {
			all.WriteString("# " + tt.name + "\n" + place(t, tt.record, tt.vars).Call(t, strings.Fields(line)...))
		}
	}
	testenv.Golden(t, "update.golden", all.String())
	if strings.Contains(all.String(), "\x1b") {
		t.Error("what a stranger said reaches the terminal")
	}
}

// TestInstall follows an installation to its end, with an updater that answers from a list.
func TestInstall(t *testing.T) {
	var all strings.Builder
	for _, tt := range []struct {
		name, line string
		end        updatecontrol.Progress
	}{
		{"done", "update --no-reboot x.bundle", updatecontrol.Progress{Phase: updatecontrol.Done, Fetched: 5 << 20}},
		{"reboots", "update http://host/x", updatecontrol.Progress{Phase: updatecontrol.Done, Reboot: true}},
		{"waits for apps", "update x", updatecontrol.Progress{Phase: updatecontrol.Locked,
			Locks: "container shop.web: /tmp/balena/updates.lock exists"}},
		{"fails", "update x", updatecontrol.Progress{Phase: updatecontrol.Failed, Error: "slot is in use",
			Hint: "unmount it"}},
		{"updater was killed", "update x", updatecontrol.Progress{Phase: updatecontrol.Idle}},
		{"json", "update --json x", updatecontrol.Progress{Phase: updatecontrol.Done, Version: "1.1.0"}},
		{"plan", "update -n x", updatecontrol.Progress{}},
	} {
		p := place(t, nil, bootvars.New())
		moments := []updatecontrol.Progress{{Phase: "compare", Done: 1, Total: 100},
			{Phase: "write", Done: 50, Total: 100, Copied: 3 << 20}, tt.end}
		if !tt.end.Phase.Ended() && tt.end.Phase != "" {
			moments = append(moments, updatecontrol.Progress{Phase: updatecontrol.Done, Reboot: true})
		}
		answer(t, p.Root, moments)
		all.WriteString("# " + tt.name + "\n" + p.Call(t, strings.Fields(tt.line)...))
	}
	testenv.Golden(t, "install.golden", all.String())
}

// answer is an updater that goes through moments, one for each question.
func answer(t *testing.T, root string, moments []updatecontrol.Progress) {
	testenv.NeedRoot(t, "a server that answers nobody else")
	path := filepath.Join(root, updatecontrol.SocketPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	socket, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	planned := updatecontrol.Planned{Version: "1.1.0", From: "1.0.0", Slot: "B", Size: 100,
		Steps: []string{"write", "switch"}}
	server := control.Server{Socket: socket, Log: slog.New(slog.DiscardHandler), Handlers: map[string]control.Handler{
		updatecontrol.OpInstall: func(context.Context, json.RawMessage) (any, error) { return planned, nil },
		updatecontrol.OpProgress: func(context.Context, json.RawMessage) (any, error) {
			now := moments[0]
			moments = moments[min(1, len(moments)-1):]
			return now, nil
		},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Run(ctx) // ends with the test
	}()
	t.Cleanup(func() { cancel(); <-ended; socket.Close() })
}
