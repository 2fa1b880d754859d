package main

import (
	"strings"
	"testing"
)

// TestEntrance: who starts a production image is told at once that it shows nothing, and how to get in.
func TestEntrance(t *testing.T) {
	for variant, want := range map[string]string{
		"development": "ssh -p 2222 root@localhost", "": "ssh -p 2222 root@localhost",
		"production": "says nothing on its console; with your key in os.sshKeys",
	} {
		if got := entrance(variant, "2222"); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", variant, got, want)
		}
	}
}

func TestTypist(t *testing.T) {
	cases := map[string]struct {
		typed []string
		send  string
		leave bool
	}{
		"plain":               {[]string{"ls\r"}, "ls\r", false},
		"Ctrl-C goes through": {[]string{"\x03"}, "\x03", false},
		"Ctrl-]":              {[]string{"ab\x1dcd"}, "ab", true},
		"Ctrl-a x":            {[]string{"ab\x01x"}, "ab", true},
		"cut in between":      {[]string{"\x01", "x"}, "", true},
		"Ctrl-a twice":        {[]string{"\x01\x01x"}, "\x01x", false},
		"Ctrl-a other":        {[]string{"\x01b"}, "\x01b", false},
		"x alone":             {[]string{"x"}, "x", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var k typist
			var send []byte
			var leave bool
			for _, typed := range c.typed {
				more, left := k.keys([]byte(typed))
				send, leave = append(send, more...), leave || left
			}
			if string(send) != c.send || leave != c.leave {
				t.Errorf("keys = %q, %v, want %q, %v", send, leave, c.send, c.leave)
			}
		})
	}
}
