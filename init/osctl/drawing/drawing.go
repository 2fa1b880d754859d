// Package drawing is the tool picture, which draws for osctl: osctl boot --svg and osctl graph --svg execute it. It is
// a separate program because osctl is part of PID 1's binary, which every page of the drawing code would make larger.
// It owns no picture. Read pictures first.
package drawing

import (
	"context"
	"os"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/dependency"
	"resinos/init/osctl/timeline"
	"resinos/services/boottime"
	"resinos/services/control"
)

// pictures are what can be drawn, by the command of osctl that asks for it.
func pictures() map[string]cli.Run {
	return map[string]cli.Run{"boot": timeline.Picture, "graph": dependency.Picture}
}

// Main draws what args ask for: the name of a picture, and what its command was given. It returns the exit status.
func Main(args []string) int {
	s := &cli.Session{Env: cli.Env{Stdout: os.Stdout, Stderr: os.Stderr, Control: control.SocketPath},
		Now: boottime.Now, Wall: time.Now}
	return run(context.Background(), s, args)
}

func run(ctx context.Context, s *cli.Session, args []string) int {
	if len(args) > 0 {
		if draw, known := pictures()[args[0]]; known {
			return s.Exit(args[0], draw(ctx, s, cli.Flags(args[0]), args[1:]))
		}
	}
	return s.Exit("", cli.Misuse("picture draws boot or graph", "try: osctl boot --svg > boot.svg"))
}
