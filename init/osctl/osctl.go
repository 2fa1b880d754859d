// Package osctl owns the operator's command: what can be typed, its help, and which package answers it.
//
// The commands are in packages of their own, each of a few that belong together; they ask PID 1 over the control socket
// and logd over its own, and read the kernel's files about cgroups, processes and mounts. The only things that osctl
// changes itself are config.json, the line "masked" of an owner's service file, and the mark that has a partition
// purged. It keeps nothing and needs no configuration. Text is for people and may change; what --json prints is stable.
// Nothing wraps: a line that is wider than the terminal is cut. Untrusted bytes are escaped. Read commands first, then
// cli.Session.
package osctl

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/boottime"
	"resinos/services/control"
	"resinos/services/log/query"
)

// Main runs one command line, args being what follows osctl. It returns the exit code: 0 done, 1 failed, 2 wrong usage,
// 3 for the status of a service that is not up.
func Main(ctx context.Context, env cli.Env, args []string) int {
	s := &cli.Session{Env: env, Now: boottime.Now, Wall: time.Now}
	if s.Stdout == nil {
		s.Stdout = os.Stdout
	}
	if s.Stderr == nil {
		s.Stderr = os.Stderr
	}
	if s.Control == "" {
		s.Control = control.SocketPath
	}
	if s.Log == "" {
		s.Log = query.SocketPath
	}
	if s.Root == "" {
		s.Root = "/"
	}
	s.Screen = screen.LookAt(s.Stdout, s.Stderr)
	return run(ctx, s, args)
}

func run(ctx context.Context, s *cli.Session, args []string) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	return s.Exit(name, dispatch(ctx, s, args))
}

func dispatch(ctx context.Context, s *cli.Session, args []string) error {
	if len(args) == 0 {
		return cli.Misuse("no command was given", overview())
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return help(s, args)
	}
	c, ok := find(name)
	if !ok {
		return noCommand(name)
	}
	err := c.run(ctx, s, cli.Flags(name), args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(s.Stdout, c.manual())
	}
	return err
}
