package modem

import (
	"fmt"
	"testing"
	"time"

	"resinos/net/cellular"
	"resinos/net/modemports"
)

// A modem that ModemManager has given up is announced again at once, then after each patience; one that it has not
// found after a patience; never one that it has, whose further ports it has no use for.
func TestAbsent(t *testing.T) {
	ports := map[modemports.Port]bool{
		{Subsystem: "tty", Name: "ttyUSB0", Device: "/sys/a"}: true,
		{Subsystem: "tty", Name: "ttyUSB1", Device: "/sys/a"}: true,
		{Subsystem: "tty", Name: "ttyUSB2", Device: "/sys/b"}: true,
	}
	a := []cellular.Modem{{Port: "ttyUSB0"}}
	both := append([]cellular.Modem{{Port: "wwan0", Ports: []string{"ttyUSB2"}}}, a...)
	x := absent{}
	for _, step := range []struct {
		at     time.Duration
		modems []cellular.Modem
		want   string
	}{
		{0, nil, "[]"},
		{time.Minute, a, "[]"},
		{patience - 1, a, "[]"},
		{patience, a, "[/sys/b]"},
		{patience + time.Minute, a, "[]"},
		{patience + 2*time.Minute, both, "[]"},
		{patience + 3*time.Minute, nil, "[/sys/a /sys/b]"},
		{patience + 4*time.Minute, nil, "[]"},
		{patience + 5*time.Minute, both, "[]"},
		{patience + 6*time.Minute, a, "[/sys/b]"},
		{2*patience + 6*time.Minute, a, "[/sys/b]"},
	} {
		if got := fmt.Sprint(x.again(time.Unix(0, 0).Add(step.at), ports, step.modems)); got != step.want {
			t.Errorf("after %v: %s, want %s", step.at, got, step.want)
		}
	}
	if x.again(time.Unix(0, 0), nil, nil); len(x) > 0 {
		t.Errorf("of what has been pulled out it keeps %v", x)
	}
}
