// Package look owns the look of a service's state on a terminal: the sign in front of its name, and the colour. All
// commands that list services show them alike. It judges only the state, and draws no table. Read Of first.
package look

import (
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// Look is what the sign in front of a service says.
type Look int

// The looks.
const (
	Up Look = iota
	Done
	Moving // on the way to another state
	Off
	Wrong
)

// Of is the look of a service.
func Of(st *pid1.ServiceStatus) Look {
	switch st.State {
	case "up":
		return Up
	case "done":
		return Done
	case "failed", "backoff":
		return Wrong
	case "down", "armed", "skipped", "masked", pid1.Removed:
		return Off
	}
	return Moving
}

// Sign is the first cell of the row of a service.
func Sign(s *screen.Screen, st *pid1.ServiceStatus) screen.Cell {
	g := s.Glyphs()
	sign := [...]string{Up: g.Up, Done: g.Done, Moving: g.Moving, Off: g.Off, Wrong: g.Wrong}[Of(st)]
	return screen.Cell{Text: sign, Colour: Colour(st.State), Tight: true}
}

// Colour is that of a state.
func Colour(state string) screen.Colour {
	switch state {
	case "up":
		return screen.Green
	case "failed":
		return screen.Red
	case "backoff", "waiting", "starting", "leaving", "stopping", "killing", "clearing":
		return screen.Yellow
	case "down", "masked", "skipped":
		return screen.Dim
	}
	return screen.Plain
}
