package main

import (
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	p, err := parsePolicy(strings.Split("low:\n a b\n c c/ctest\nhigh: low/c\n x\n .", "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		from, to string
		test     bool
		want     bool
	}{
		{"low/c", "low/a", false, true},
		{"low/a", "low/c", false, false}, // up
		{"low/a", "low/b", false, false}, // sideways
		{"low/c", "low/c/ctest", true, true},
		{"low/c", "low/c/ctest", false, false},
		{"high/x", "low/c", false, true},
		{"high/x", "low/a", false, false}, // only low/c is open
		{"high", "high/x", false, true},
		{"low/c", "high/x", false, false},
	} {
		if got := p.allows(one.from, one.to, one.test); got != one.want {
			t.Errorf("%s -> %s (test %v): allowed is %v, want %v", one.from, one.to, one.test, got, one.want)
		}
	}
	for _, bad := range []string{"a b", "low:\n a\n a"} {
		if _, err := parsePolicy(strings.Split(bad, "\n")); err == nil {
			t.Errorf("%q is no policy, and none was refused", bad)
		}
	}
}
