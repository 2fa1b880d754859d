package timesync

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/testenv"
	"resinos/net/clockstatus"
)

func TestTime(t *testing.T) {
	saved := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	began := &clockstatus.Start{Origin: clockstatus.FromSaved, At: saved, Build: saved.Add(-time.Hour), Saved: &saved}
	step := &clockstatus.StepTaken{At: 12, By: 86_400.25, Why: "first synchronisation"}
	synced := clockstatus.Status{
		Synchronised: true, Since: 12.5, Origin: clockstatus.FromNTP, By: "ntp.example",
		Address: "192.0.2.1", Stratum: 2,
		Offset: -0.00123, Bound: 0.031,
		PPM: -12.34, Heard: 93_700, Poll: 128, Next: 93_828, LastStep: step, Steps: 1, Start: began, PID: 77,
		Began: 1234,
		Servers: []clockstatus.Server{
			{Name: "ntp.example", From: "config", Address: "192.0.2.1", State: clockstatus.Used, Stratum: 2,
				Offset: 0.0004,
				Delay:  0.021, Bound: 0.031, Heard: 93_700, Reach: "11111111"},
			{Name: "10.0.0.1", From: "dhcp", Address: "10.0.0.1", State: clockstatus.FalseTicker,
				Why: "it is 45d off the majority", Stratum: 3, Offset: 3888000, Delay: 0.0004, Heard: 93_700,
				Reach: "11111111"},
			{Name: "a.example", From: "default", State: clockstatus.Unresolved, Why: "there is no such name\x1b[2J",
				Reach: "00000000"},
			{Name: "b.example", From: "default", State: clockstatus.Unasked, Reach: "00000000"},
		},
	}
	fresh := clockstatus.Status{Origin: clockstatus.FromSaved, Start: began, Servers: []clockstatus.Server{}}
	silent := clockstatus.Status{Origin: clockstatus.FromSaved, Start: began, PID: 77, Began: 1234, Next: 93_800,
		Trouble: "no server answers", Servers: synced.Servers[2:]}
	lost := synced
	lost.Synchronised, lost.Since, lost.Heard, lost.Trouble = false, 93_000, 5000,
		"2 servers answer, and no majority agrees"
	hand := synced
	hand.Synchronised, hand.Since, hand.Origin, hand.Trouble = false, 93_720, clockstatus.FromHand,
		"somebody has set the clock, and the servers have not answered since"
	dead := synced
	dead.Began = 5
	doubt := synced
	doubt.Trouble = "the servers suddenly say +9.00s, which they have to repeat first"
	var all strings.Builder
	for _, tt := range []struct {
		name, text string
		status     *clockstatus.Status
		line       string
	}{
		{"synchronised", "", &synced, "time"},
		{"synchronised", "", &synced, "time --json"},
		{"before netd has started", "", &fresh, "time"},
		{"no server", "", &silent, "time"},
		{"lost", "", &lost, "time"},
		{"set by hand", "", &hand, "time"},
		{"netd has died", "", &dead, "time"},
		{"in doubt", "", &doubt, "time"},
		{"nothing known", "", nil, "time"},
		{"garbage", "{\"servers\": 5}", nil, "time"},
		{"an argument", "", &fresh, "time now"},
	} {
		root := clitest.Device(t)
		path := filepath.Join(root, clockstatus.Path)
		text := []byte(tt.text)
		if tt.status != nil {
			var err error
			if text, err = json.Marshal(tt.status); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if len(text) > 0 {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		// The process that wrote the status, as /proc/PID/stat tells of it.
		stat := "77 (netd) S 1 " + strings.Repeat("0 ", 17) + "1234 0"
		if err := os.WriteFile(filepath.Join(root, "proc/77/stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
		place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"time": Show}), Root: root}
		fmt.Fprintf(&all, "# %s\n%s", tt.name, place.Call(t, strings.Fields(tt.line)...))
	}
	testenv.Golden(t, "time.golden", all.String())
	if strings.Contains(all.String(), "\x1b") {
		t.Error("what a stranger said reaches the terminal")
	}
}
