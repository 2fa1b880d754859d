package recovery

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/services/bootreport"
)

// TestTell: what stage 1 found is told, step by step, and what can be done.
func TestTell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "initramfs.json")
	r := bootreport.New(bootreport.Report{})
	r.Add(bootreport.Step{Name: "find slot"})
	r.Add(bootreport.Step{Name: "attach root", Error: "no such file"})
	r.Add(bootreport.Step{Name: bootreport.StepRecovery, Error: "slot A: x; slot B: y"})
	if err := r.Save(file); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tell(&out, file); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n  slot A: x\n  slot B: y\n", "osctl reboot", "recovery boot A|B"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "find slot") {
		t.Errorf("a step without a fault is told:\n%s", &out)
	}
	if err := os.WriteFile(file, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tell(&out, file); err == nil {
		t.Error("a damaged report is no fault")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"boot"}, {"help"}, {"run", "A"}, {"boot", "A", "B"}} {
		if code := Main(args); code != 2 {
			t.Errorf("Main(%q) = %d, want 2", args, code)
		}
	}
	if code := Main([]string{"boot", "C"}); code != 1 {
		t.Errorf("boot C = %d, want 1", code)
	}
}

// TestChoose: the bootloader boots the slot, no trial goes on, and what others keep in the file stays.
func TestChoose(t *testing.T) {
	for _, loader := range bootvars.Bootloaders() {
		dir := t.TempDir()
		before := bootvars.Variables{Slot: slot.A, Try: slot.B, Tries: "2", Fault: bootvars.RootFault,
			Others: map[string]string{"later": "x"}}
		text, err := loader.Encode(before)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, loader.File()), text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := choose(dir, filepath.Join(dir, "lock"), slot.B); err != nil {
			t.Fatal(err)
		}
		_, v, err := update.ReadVariables(dir)
		if err != nil || v.Slot != slot.B || v.Try != bootvars.NoTrial || v.Tries != bootvars.NoTries ||
			v.Fault != bootvars.NoFault || v.Others["later"] != "x" {
			t.Errorf("%s: variables = %+v, %v", loader, v, err)
		}
	}
	if err := choose(t.TempDir(), filepath.Join(t.TempDir(), "lock"), slot.A); err == nil {
		t.Error("a boot partition without variables is no fault")
	}
}

// TestRetrier: the device tries again after the pause, but not while somebody needs it, and says what it does once.
func TestRetrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holders := []string{"ssh", "ssh", "console", ""}
		var said []string
		var at time.Duration
		began := time.Now()
		r := retrier{pause: pause, again: again, say: func(text string) { said = append(said, text) },
			held: func(since time.Duration) string {
				by := holders[0]
				holders = holders[1:]
				return by
			},
			retry: func() error { at = time.Since(began); return errors.New("PID 1 is busy") }}
		if err := r.run(t.Context()); err == nil || at != pause+3*again {
			t.Errorf("run = %v after %v, want %v", err, at, pause+3*again)
		}
		want := []string{"recovery: stays, because ssh", "recovery: stays, because console", "recovery: tries again"}
		if len(said) != 4 || !slices.Equal(said[1:], want) {
			t.Errorf("it said %q", said)
		}
	})
}

func TestRetrierEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := retrier{pause: pause, again: again, say: func(string) {}}
	if err := r.run(ctx); err != nil {
		t.Errorf("run = %v", err)
	}
}

// TestConnected compares the kernel's table with a connection of this test.
func TestConnected(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:56CE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:56CE 0100007F:C350 06 00000000:00000000 00:00000000 00000000     0        0 1
   2: 0100007F:C350 0100007F:56CE 01 00000000:00000000 00:00000000 00000000     0        0 1
`
	file := filepath.Join(t.TempDir(), "tcp")
	if err := os.WriteFile(file, []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	if connected(file, 22222) {
		t.Error("a socket that listens, one that has ended and one of a client count")
	}
	if connected(file+".missing", 22222) {
		t.Error("a missing table has a connection")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if connected("/proc/net/tcp", port) {
		t.Error("nobody is connected")
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !connected("/proc/net/tcp", port) {
		t.Error("a connection is not seen")
	}
}

// TestTyped: the time at which a console was read last counts; one that is not there does not.
func TestTyped(t *testing.T) {
	dir := t.TempDir()
	active, then := filepath.Join(dir, "active"), time.Unix(1_000_000, 0)
	if err := os.WriteFile(active, []byte("ttyAMA9 tty0 ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if typed(active, dir, then) {
		t.Error("somebody types on consoles that are not there")
	}
	for _, name := range []string{"tty1", "ttyS0"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), then.Add(-time.Second), then); err != nil {
			t.Fatal(err)
		}
	}
	if typed(active, dir, then) {
		t.Error("what was typed before counts")
	}
	if err := os.Chtimes(filepath.Join(dir, "tty1"), then.Add(time.Second), then); err != nil {
		t.Fatal(err)
	}
	if !typed(active, dir, then) {
		t.Error("what was typed on the screen does not count")
	}
	if typed(active+".missing", dir, then) {
		t.Error("a device without consoles has one")
	}
}
