package ubootenv

import (
	"bytes"
	"strings"
	"testing"
)

const sample = "code\xff\x00CLI usage\x00bootcmd=bootflow scan\x00bootdelay=2\x00preboot=usb " +
	"start\x00arch=arm\x00\x00more\x00a=b\x00\x00"

func TestChange(t *testing.T) {
	for name, tt := range map[string]struct {
		binary string
		values map[string]string
		want   string // the binary, or a part of the error
	}{
		"shorter": {sample, map[string]string{"bootdelay": "-2", "preboot": "", "none": ""},
			"code\xff\x00CLI usage\x00bootcmd=bootflow scan\x00bootdelay=-2\x00arch=arm\x00" + strings.Repeat("\x00",
				17) + "\x00more\x00a=b\x00\x00"},
		"new": {sample, map[string]string{"preboot": "", "z": "1", "after": "reset"},
			"code\xff\x00CLI usage\x00bootcmd=bootflow scan\x00bootdelay=2\x00arch=arm\x00after=reset\x00z=1\x00" +
				"\x00\x00\x00more\x00a=b\x00\x00"},
		"the same":     {sample, nil, sample},
		"too long":     {sample, map[string]string{"bootcmd": strings.Repeat("x", 40)}, "at most 60 fit"},
		"no U-Boot":    {"\x7fELF", nil, "0 variables bootdelay"},
		"two":          {sample + sample, nil, "2 variables bootdelay"},
		"its end lost": {"a\x00bootdelay=2", nil, "no end"},
		"garbage":      {"a\x00bootdelay=2\x00gar bage\x00\x00", nil, "gar bage"},
		"a bad name":   {sample, map[string]string{"a b": "", "preboot": "", "c d": "1"}, `"c d=1" is not a variable`},
		"a NUL":        {sample, map[string]string{"preboot": "a\x00b"}, "not a variable"},
	} {
		got, err := Change([]byte(tt.binary), tt.values)
		if err != nil {
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", name, err, tt.want)
			}
			continue
		}
		if string(got) != tt.want {
			t.Errorf("%s:\n%q, want\n%q", name, got, tt.want)
		}
	}
}

func FuzzChange(f *testing.F) {
	f.Add([]byte(sample), "bootdelay", "-2")
	f.Add([]byte("\x00bootdelay=\x00"), "a", "")
	f.Fuzz(func(t *testing.T, binary []byte, name, value string) {
		got, err := Change(binary, map[string]string{name: value})
		if err != nil {
			return
		}
		if len(got) != len(binary) || len(bytes.ReplaceAll(got, []byte{0}, nil)) > len(binary) {
			t.Errorf("%q becomes %q", binary, got)
		}
	})
}
