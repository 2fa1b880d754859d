package main

import (
	"errors"
	"flag"
	"testing"
)

func TestRunUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"/usr/sbin/init"}, 2},
		{[]string{"init", "no-such-applet"}, 2},
		{[]string{"/usr/bin/no-such-applet"}, 2},
	} {
		if got := run(tt.args); got != tt.want {
			t.Errorf("run(%q) = %d, want %d", tt.args, got, tt.want)
		}
	}
	for _, tt := range []struct {
		err  error
		want int
	}{{nil, 0}, {errors.New("x"), 1}, {usageError{errors.New("x")}, 2}, {flag.ErrHelp, 2}} {
		if got := exitCode("test", tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}
