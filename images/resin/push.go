package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"resinos/images/apppush"
)

const pushLong = `Builds the container images of an app on a device, and runs the app there.

DIR contains a compose file. The docker client of this machine reads it, and builds on the device's own Docker daemon,
which development and standalone images have; so the images have the device's architecture and are not sent. The device
gets the compose file without build, and the files that it binds. Volumes keep their content.

Everything goes through ssh, whose settings are those of your ssh command.`

func pushCommand() *cobra.Command {
	var device, docker string
	var dry bool
	c := &cobra.Command{Use: "push DIR", Short: "Builds an app on a device and runs it there", Long: pushLong,
		Example: "  resin push . --device 192.168.1.20\n" +
			"  resin push ./shop --device kiosk.local --docker-host tcp://kiosk.local:2377", Args: countArgs(1)}
	c.Flags().StringVar(&device, "device", "resinos.local", "the device: HOST or HOST:PORT of its ssh")
	c.Flags().StringVar(&docker, "docker-host", "", "address of its Docker daemon (default: through ssh)")
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "prints what the device would get, and does nothing")
	c.RunE = func(c *cobra.Command, args []string) error {
		target, err := apppush.ParseTarget(device)
		if err != nil {
			return usageError{err}
		}
		target.Docker = docker
		dir, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return err
		}
		streams := apppush.Streams{Out: c.OutOrStdout(), Err: c.ErrOrStderr()}
		plan, err := apppush.Read(c.Context(), dir, streams)
		if err != nil {
			return err
		}
		if dry {
			return showPush(c, plan, target)
		}
		return plan.Push(c.Context(), dir, target, streams)
	}
	return c
}

func showPush(c *cobra.Command, p apppush.Plan, t apppush.Target) error {
	out := c.OutOrStdout()
	for _, image := range p.Images {
		fmt.Fprintf(out, "build %s on %s\n", image, t.Host)
	}
	for _, file := range p.Files {
		fmt.Fprintf(out, "send  %s\n", file)
	}
	_, err := fmt.Fprintf(out, "app   %s\n%s", p.App, p.Compose)
	return err
}
