package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"resinos/services/notify"
	"resinos/services/settings"
)

// TestDevdLife: what a devd at rest leaves counts once, for the socket that it had, and only if it is whole.
func TestDevdLife(t *testing.T) {
	file := filepath.Join(t.TempDir(), "devd.json")
	left := &devdLife{Socket: 7, Screen: "../card0",
		Settings: map[string]settings.Value{"k": {JSON: json.RawMessage("1")}}}
	text, err := json.Marshal(left)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		socket     uint64
		continues  bool
	}{
		{"same socket", string(text), 7, true}, {"another socket", string(text), 8, false},
		{"cut", string(text[:len(text)/2]), 7, false}, {"empty", "", 7, false}, {"garbage", `{"Socket":"x"}`, 7, false},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		now := &devdLife{}
		now.resume(file, c.socket)
		if now.continues != c.continues || now.Socket != c.socket {
			t.Errorf("%s: continues %v with socket %d", c.name, now.continues, now.Socket)
		}
		if c.continues && (now.Screen != "../card0" || string(now.Settings["k"].JSON) != "1") {
			t.Errorf("%s: %+v", c.name, now)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: the file is still there: a devd that is killed would look as if it had ended well", c.name)
		}
	}
	now := &devdLife{}
	if now.resume(file, 7); now.continues {
		t.Error("without a file it continues")
	}
}

// TestDevdTakesOver: a descriptor that is no socket of events is not taken for one, and power buttons have their names.
func TestDevdTakesOver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	now, held := takeLife([]notify.Inherited{{FD: int(r.Fd()), Name: "devd"}, {FD: int(w.Fd()), Name: "button-event3"}},
		slog.New(slog.DiscardHandler))
	if now.events != nil || now.continues || len(held) != 1 || held["event3"] != int(w.Fd()) {
		t.Errorf("took %+v, buttons %v", now, held)
	}
}

// TestDevdApplied: settings are left for the next life only if all of them could be applied.
func TestDevdApplied(t *testing.T) {
	value := map[string]settings.Value{"os.fan.profile": {JSON: json.RawMessage(`"cool"`)}, "hostname": {}}
	h, now := &hardwareSettings{last: settings.Settings{Values: value}}, &devdLife{}
	if now.applied(h, nil); len(now.Settings) != 1 || string(now.Settings["os.fan.profile"].JSON) != `"cool"` {
		t.Errorf("left %v, want the keys of devd", now.Settings)
	}
	if now.applied(h, errors.New("no such profile")); now.Settings != nil {
		t.Errorf("after a fault %v is left, and would not be tried again", now.Settings)
	}
}
