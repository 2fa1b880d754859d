package main

import "testing"

func TestRunUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"/usr/sbin/init"}, 2},
		{[]string{"init", "no-such-applet"}, 2},
		{[]string{"/usr/sbin/devd", "-no-such-flag"}, 2},
		{[]string{"init", "logd", "argument"}, 2},
		{[]string{"modprobe", "-q"}, 2},
		{[]string{"/sbin/modprobe", "-q", "--", "no-such-module"}, 1},
		{[]string{"/usr/bin/osctl", "no-such-command"}, 2},
		{[]string{"/usr/bin/no-such-applet"}, 2},
	} {
		if got := run(tt.args); got != tt.want {
			t.Errorf("run(%q) = %d, want %d", tt.args, got, tt.want)
		}
	}
}
