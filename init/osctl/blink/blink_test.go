package blink

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/mounts/testenv"
)

// device makes a root with files.
func device(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
	}
	return root
}

func led(name string) map[string]string {
	dir := "sys/class/leds/" + name + "/"
	return map[string]string{
		dir + "brightness": "7\n", dir + "max_brightness": "255\n", dir + "trigger": "none [mmc0] timer\n",
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func call(t *testing.T, root string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	s := &cli.Session{Env: cli.Env{Stdout: &out, Root: root}}
	err := Show(t.Context(), s, cli.Flags("blink"), args)
	return out.String(), err
}

func TestChoose(t *testing.T) {
	both := led("act")
	for name, text := range led("input3::capslock") {
		both[name] = text
	}
	for _, c := range []struct {
		files map[string]string
		board string
		want  string
	}{
		{both, "act", "the light act"},
		{both, "gone", "the light capslock of the keyboard"},
		{both, "", "the light capslock of the keyboard"},
		{map[string]string{"dev/tty1": "", "sys/class/leds/mmc0::/brightness": "0"}, "", "the screen"},
	} {
		if l, err := choose(device(t, c.files), c.board); err != nil || l.String() != c.want {
			t.Errorf("with the light %q of the board: %v, %v, want %s", c.board, l, err, c.want)
		}
	}
	if l, err := choose(t.TempDir(), ""); err == nil {
		t.Errorf("a device with nothing blinks %v", l)
	}
}

// TestBlink: the light is what it was afterwards, whatever ended the call.
func TestBlink(t *testing.T) {
	files := led("act")
	files["usr/lib/resinos/hardware.json"] = `{"led":"act"}`
	root := device(t, files)
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(root, "sys/class/leds/act", name))
		return strings.TrimSpace(string(text))
	}
	out, err := call(t, root, "-n")
	if err != nil || out != "blink the light act for 15s\n" || read("brightness") != "7" {
		t.Errorf("-n: %q, %v; the light is %s", out, err, read("brightness"))
	}
	_, err = call(t, root, "--for", "500ms")
	if err != nil || read("brightness") != "7" || !strings.HasPrefix(read("trigger"), "mmc0") {
		t.Errorf("afterwards %v, brightness %s, trigger %s", err, read("brightness"), read("trigger"))
	}
	for _, wrong := range [][]string{{"x"}, {"--for", "0s"}, {"--for", "1h"}} {
		if _, err := call(t, root, wrong...); err == nil {
			t.Errorf("blink %q is accepted", wrong)
		}
	}
	l, err := choose(root, "act")
	if err != nil {
		t.Fatal(err)
	}
	// A file is no sysfs: the trigger must say again what is in force.
	must(t, os.WriteFile(filepath.Join(root, "sys/class/leds/act/trigger"), []byte("none [mmc0] timer\n"), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.blink(ctx, time.Hour) }()
	testenv.WaitFor(t, "the light on", func() bool { return read("brightness") == "255" })
	testenv.WaitFor(t, "the light off", func() bool { return strings.HasPrefix(read("brightness"), "0") })
	if err := l.blink(t.Context(), time.Second); err == nil || !strings.Contains(err.Error(), "blinks already") {
		t.Errorf("a second call beside it: %v", err)
	}
	cancel()
	if err := testenv.Receive(t, "its end", ended); err != nil || read("brightness") != "7" {
		t.Errorf("after Ctrl-C %v, brightness %s", err, read("brightness"))
	}
}

// TestScreen: what reaches the terminal.
func TestScreen(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	tty := filepath.Join(root, "dev/tty1")
	if err := unix.Mkfifo(tty, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(tty, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	out, err := call(t, root, "--for", "500ms")
	if err != nil || out != "blink the screen for 500ms\n" {
		t.Fatalf("%q, %v", out, err)
	}
	buffer := make([]byte, 100)
	n, err := reader.Read(buffer)
	text := string(buffer[:n])
	if err != nil || !strings.HasPrefix(text, "\033[?5h\033[?5l") || !strings.HasSuffix(text, "\033[?5l") {
		t.Errorf("the terminal got %q, %v", text, err)
	}
}

// TestPixels: a screen that belongs to a picture shows its negative and then the picture, and a framebuffer that is not
// there is reported.
func TestPixels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fb0")
	picture := bytes.Repeat([]byte{0xff, 0x00, 0x5a}, 70_001)
	negative := bytes.Repeat([]byte{0x00, 0xff, 0xa5}, 70_001)
	must(t, os.WriteFile(path, picture, 0o600))
	set, restore := pixels(path)
	for i, want := range [][]byte{negative, negative, picture, negative} {
		must(t, set(i != 2))
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("step %d: %v, or another picture", i, err)
		}
	}
	for range 2 {
		must(t, restore())
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, picture) {
			t.Errorf("afterwards: %v, or another picture", err)
		}
	}
	set, _ = pixels(path + "1")
	if err := set(true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no framebuffer: %v", err)
	}
	if pictured(path) {
		t.Error("a file is a terminal with a picture")
	}
}
