package qemu

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

// fakeMonitor answers each line with the lines that reply returns.
func fakeMonitor(t *testing.T, patience time.Duration, greeting string,
	reply func(line string) string) (*Monitor, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer theirs.Close()
		_, _ = io.WriteString(theirs, greeting)
		lines := bufio.NewScanner(theirs)
		for lines.Scan() {
			answer := reply(lines.Text())
			if answer == "" {
				return
			}
			_, _ = io.WriteString(theirs, answer)
		}
	}()
	t.Cleanup(func() { ours.Close(); <-ended })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return newMonitor(ctx, ours)
}

const greeting = `{"QMP": {"version": {}}}` + "\n"

func TestMonitor(t *testing.T) {
	m, err := fakeMonitor(t, testenv.Patience(), greeting, func(line string) string {
		switch {
		case strings.Contains(line, "qmp_capabilities"):
			return `{"return": {}}` + "\n"
		case strings.Contains(line, "query-status"):
			return `{"event":"RESET","data":{"guest":true}}` + "\n" + `{"return": {"status":"running"}}` + "\n"
		case strings.Contains(line, "system_powerdown"):
			return `{"error": {"class":"GenericError","desc":"no button"}}` + "\n"
		}
		return ""
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Status(t.Context()); got != "running" || err != nil {
		t.Errorf("Status = %q, %v", got, err)
	}
	if err := m.PowerDown(t.Context()); err == nil || !strings.Contains(err.Error(), "no button") {
		t.Errorf("PowerDown = %v", err)
	}
	if e, err := m.WaitEvent(t.Context(), 0, "RESET"); err != nil || string(e.Data) != `{"guest":true}` {
		t.Errorf("WaitEvent = %v, %v", e, err)
	}
	if err := m.Quit(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Quit on a dead monitor = %v", err)
	}
	if _, err := m.WaitEvent(t.Context(), 1, "RESET"); !errors.Is(err, io.EOF) {
		t.Errorf("WaitEvent on a dead monitor = %v", err)
	}
	_ = m.Close()
	if err := m.Reset(t.Context()); err == nil {
		t.Error("Reset on a closed monitor succeeded")
	}
}

func TestMonitorBadGreeting(t *testing.T) {
	for name, text := range map[string]string{
		"garbage":   "SSH-2.0-OpenSSH\n",
		"no answer": "",
		"other":     `{"return":{}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := fakeMonitor(t, 100*time.Millisecond, text, func(string) string { return "" }); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func FuzzMonitor(f *testing.F) {
	f.Add([]byte(greeting + `{"return":{}}` + "\n" + `{"event":"RESET"}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(in)
			_ = theirs.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if m, err := newMonitor(ctx, ours); err == nil {
			_ = m.Close()
		}
	})
}
