package spec

import (
	"testing"
)

func TestLimitsWhileBooting(t *testing.T) {
	for _, one := range []struct {
		limits  Limits
		booting bool
		want    int
	}{
		{Limits{CPUWeight: 50, BootCPUWeight: 2}, true, 2},
		{Limits{CPUWeight: 50, BootCPUWeight: 2}, false, 50},
		{Limits{CPUWeight: 50}, true, 50},
		{Limits{BootCPUWeight: 2000}, false, 0},
	} {
		if got := one.limits.While(one.booting).CPUWeight; got != one.want {
			t.Errorf("%+v while booting %v: weight %d, want %d", one.limits, one.booting, got, one.want)
		}
	}
}
