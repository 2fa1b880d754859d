package main

import (
	"context"
	"flag"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"resinos/containers/fetcher"
	"resinos/services/registries"
)

// registrySettings are the directories of the owner's settings for registries.
const registrySettings = registries.Default

// confine is what a fetcher gives up; a test that is built with cgo cannot.
var confine = fetcher.Confine

// runFetcher speaks with the registry of one image for the manager, which is at the other end of descriptor 3.
func runFetcher(ctx context.Context, env Env, args []string) error {
	var c fetcher.Config
	var settings string
	flags := flag.NewFlagSet("fetcher", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.StringVar(&c.Image, "image", "", "the whole name of a container image")
	flags.StringVar(&settings, "registries", registrySettings, "directories of the settings for registries")
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	debug.SetGCPercent(50) // it holds some buffers and no more, and what it takes counts as the manager's
	c.Settings = strings.Split(settings, ",")
	c.Confine = confine
	conn, err := fetcher.FromFile(os.NewFile(3, "manager"))
	if err != nil {
		return err
	}
	c.Conn = conn
	return fetcher.Run(ctx, c)
}

// fetcherOf returns how the manager starts a fetcher: by its own program, in a mount namespace of its own, which the
// fetcher uses up for hiding what it is not to see.
func fetcherOf(settings string, log io.Writer) func(image string) *exec.Cmd {
	return func(image string) *exec.Cmd {
		cmd := &exec.Cmd{
			Path: "/proc/self/exe", Args: []string{"fetcher", "-image", image, "-registries", settings},
			Env: []string{"PATH=/usr/bin"}, Dir: "/", Stderr: log,
		}
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		}
		return cmd
	}
}
