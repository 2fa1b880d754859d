package main

import (
	"path/filepath"
	"strings"
	"testing"

	"resinos/containers/appcontrol"
)

const processes = `x-base: &base
  image: busybox
  network_mode: none
services:
  first:
    <<: *base
    init: true
    read_only: true
    command:
      - /bin/sh
      - -c
      - |
        trap 'echo heard; exit 0' TERM
        orphan=$$(sh -c 'sleep 0.1 >&2 & echo $$!')
        while [ -e /proc/$$orphan ]; do sleep 0.1; done
        echo "first $$(cat /proc/1/comm), I am $$$$"
        while :; do sleep 0.1; done
  terminal:
    <<: *base
    tty: true
    command: ["/bin/sh", "-c", "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo \"on $$TERM $$(tty)\" >&2; exec sleep 1000"]
  open:
    <<: *base
    stdin_open: true
    command: ["/bin/sh", "-c", "timeout 1 cat; echo \"ended $$?\"; exec sleep 1000"]
  both:
    <<: *base
    tty: true
    stdin_open: true
    command: ["/bin/sh", "-c", "timeout -s KILL 1 cat; echo \"ended $$? $$(tty)\"; exec sleep 1000"]
  closed:
    <<: *base
    command: ["/bin/sh", "-c", "cat; echo \"ended $$?\"; exec sleep 1000"]
`

// TestFirstProcessAndInput: a container has a first process that reaps and passes signals on, a terminal whose output
// reaches the log, and an input that does not end, if its service asks for them.
func TestFirstProcessAndInput(t *testing.T) {
	d := newDevice(t)
	d.app("shop", processes, "busybox")
	outs := map[string]*output{}
	for _, name := range []string{"first", "terminal", "open", "both", "closed"} {
		outs[name] = d.output("shop."+name, "stdout")
	}
	d.engine()
	for name, want := range map[string]string{
		"terminal": "on xterm /dev/pts/0", "open": "ended 143", "both": "ended 137 /dev/pts/0", "closed": "ended 0",
	} {
		if line := outs[name].await(strings.Fields(want)[0]); strings.TrimSpace(line) != want {
			t.Errorf("%s says %q, want %q", name, line, want)
		}
	}
	if line := outs["first"].await("first"); !strings.HasPrefix(line, "first docker-init, I am ") ||
		strings.HasSuffix(line, " 1") {
		t.Errorf("%q", line)
	}
	d.started("shop.first")
	d.do(t, appcontrol.OpStop, "shop.first")
	outs["first"].await("heard")
	d.do(t, appcontrol.OpDown, "shop")
	d.eventually("nothing is left",
		func() bool { return d.left() == "" && len(glob(t, d.path("container", "inputs", "*"))) == 0 })
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
