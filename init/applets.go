package main

import (
	"context"
)

// applet is one face of the binary. args are those after its name.
type applet func(ctx context.Context, args []string) error

// applets is the table of all faces but PID 1 itself.
func applets() map[string]applet {
	return map[string]applet{}
}
