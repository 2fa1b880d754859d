package app_test

import (
	"strings"
	"testing"

	"resinos/containers/app"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "a": true, "0": true, "a-b_c": true, strings.Repeat("a", 76): true,
		"": false, "-a": false, "a-": false, "a--b": false, "a_-b": false, "A": false, "a.b": false, "ä": false,
		"a/b": false, strings.Repeat("a", 77): false, "..": false,
	} {
		if got := app.ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

// TestID: the containers of a service with a scale have names of their own.
func TestID(t *testing.T) {
	c := app.Container{App: "shop", Service: "web", Labels: []string{"a=b", "c"}}
	if c.ID() != "shop.web" || c.Label("a") != "b" || c.Label("b") != "" {
		t.Errorf("%s, labels %q %q", c.ID(), c.Label("a"), c.Label("b"))
	}
	if c.Number = 2; c.ID() != "shop.web.2" {
		t.Error(c.ID())
	}
}
