package netcommand

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/mounts/packed"
	"resinos/net/keyimport"
)

// serverVerb is the command for the device as a VPN server, and the name of the packed program that carries it out.
const serverVerb = "vpn-server"

// vpnServer has the packed program carry out "add NAME", "remove NAME" and "off" (net/vpnclients). The profile of a new
// client goes to stdout.
func (s *session) vpnServer(ctx context.Context, args []string, w wish) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "off" && len(args) == 1, (verb == "add" || verb == "remove") && len(args) == 2:
	default:
		return cli.Misuse("net vpn-server needs: add NAME, remove NAME, or off", "try: osctl help net")
	}
	if w.dry {
		_, err := fmt.Fprintf(s.Stdout, "%s %s\n", serverVerb, strings.Join(args, " "))
		return err
	}
	program := packed.Program{Path: filepath.Join(s.Root, packed.Path("tools"), serverVerb)}
	defer program.Close()
	flags := []string{"--dir", filepath.Join(s.Root, keyimport.To), "--endpoint", w.endpoint, "--"}
	cmd, err := program.Command(ctx, append(flags, args...)...)
	if err == nil {
		cmd.Stdout, cmd.Stderr = s.Stdout, s.Stderr
		err = cmd.Run()
	}
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended) && ended.Exited():
		return cli.Exit(ended.ExitCode()) // it has told why
	case err != nil:
		return cli.Silent(fmt.Errorf("change VPN server: %w", err))
	}
	return nil
}
