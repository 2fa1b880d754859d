package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/udevrules"
	"resinos/services/settings"
)

// TestHardwareSettings: each key of config.json that devd applies, alone and beside faults of the others.
func TestHardwareSettings(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const path, fan = "sys/module/firmware_class/parameters/path", "sys/class/thermal/cooling_device0/cur_state"
	is := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return strings.TrimSpace(string(text))
	}
	file("sys/module/firmware_class/parameters/path", "\n")
	file("sys/class/thermal/cooling_device0/cur_state", "0")
	file("hardware.json", `{"fan":{"cool":[{"path":"class/thermal/*/cur_state","value":"3"}]}}`)
	keeper := &udevrules.Keeper{Sys: filepath.Join(dir, "sys"), Dev: dir, Record: filepath.Join(dir, "record"),
		Log: slog.New(slog.DiscardHandler)}
	h := &hardwareSettings{sys: filepath.Join(dir, "sys"), file: filepath.Join(dir, "hardware.json"), rules: keeper,
		faults: map[string]error{}}
	apply := func(values map[string]any) string {
		t.Helper()
		s := settings.Settings{Values: map[string]settings.Value{}}
		for key, value := range values {
			text, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			s.Values[key] = settings.Value{JSON: text, From: settings.File}
		}
		if err := h.apply(s); err != nil {
			return err.Error()
		}
		return ""
	}
	if got := apply(nil); got != "" || is(path) != "" {
		t.Errorf("nothing set: %s", got)
	}
	got := apply(map[string]any{"os.fan.profile": "cool", "os.kernel.extraFirmwareVol": "radio/blobs",
		"os.power.mode": "low", "os.udevRules": map[string]string{"50-mine": `KERNEL=="x", RUN+="reboot"`}})
	if is(fan) != "3" || is(path) != "/mnt/data/volumes/radio/blobs" {
		t.Errorf("the fan has %s, the kernel looks in %q", is(fan), is(path))
	}
	for _, want := range []string{"this board has no power mode", "50-mine:1: RUN is not supported"} {
		if !strings.Contains(got, want) {
			t.Errorf("faults are %s, want %s among them", got, want)
		}
	}
	if got := apply(nil); got != "" || is(path) != "" {
		t.Errorf("nothing set any more: %s; the kernel looks in %q", got, is(path))
	}
}
