// Command engine is the container engine of the device: containerd with the workload manager in the same process, or
// the fetcher that the manager starts for each pull, by the name it is called by.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"resinos/services/footprint"
)

// Env is what an applet may touch of the process it runs in.
type Env struct {
	Stdout, Stderr io.Writer
	Log            *slog.Logger
}

// applet is one face of this program.
type applet func(ctx context.Context, env Env, args []string) error

// errUsage makes the exit status 2.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	env := Env{Stdout: os.Stdout, Stderr: os.Stderr, Log: slog.New(newPlain(os.Stderr))}
	endRush := footprint.Rush(ctx, rushLimit, rests...)
	err := dispatch(ctx, env, os.Args)
	stop()
	endRush()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		env.Log.Error("engine stopped", "error", err)
		os.Exit(1)
	}
}

// dispatch picks the applet by the base name of args[0], or by args[1] when called as engine.
func dispatch(ctx context.Context, env Env, args []string) error {
	name, rest := filepath.Base(args[0]), args[1:]
	if name == "engine" && len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	run := pick(name)
	if run == nil {
		fmt.Fprintf(env.Stderr, "engine: %q is neither containerd nor fetcher\nhint: engine containerd -help\n", name)
		return errUsage
	}
	return run(ctx, env, rest)
}

func pick(name string) applet {
	switch name {
	case "containerd":
		return runEngine
	case "fetcher":
		return runFetcher
	}
	return nil
}
