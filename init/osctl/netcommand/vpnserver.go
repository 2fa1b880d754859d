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

// The commands for the device as a server of openvpn and of wireguard, and the names of the packed programs that carry
// them out.
const (
	serverVerb = "vpn-server"
	peersVerb  = "wireguard-server"
)

// vpnServer has the packed program carry out "add NAME", "remove NAME" and "off" (net/vpnclients). The profile of a new
// client goes to stdout.
func (s *session) vpnServer(ctx context.Context, command string, args []string, w wish) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "off" && len(args) == 1, (verb == "add" || verb == "remove") && len(args) == 2:
	default:
		return cli.Misuse("net "+command+" needs: add NAME, remove NAME, or off", "try: osctl help net")
	}
	if w.dry {
		_, err := fmt.Fprintf(s.Stdout, "%s %s\n", command, strings.Join(args, " "))
		return err
	}
	program := packed.Program{Path: filepath.Join(s.Root, packed.Path("tools"), command)}
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
