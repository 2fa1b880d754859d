package netcommand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/mounts/atomicfile"
	"resinos/net/keyimport"
	"resinos/net/netcontrol"
)

// serverVerb is the command for the device as a VPN server, and serverFile its key file, as netd calls it.
const (
	serverVerb = "vpn-server"
	serverFile = "vpn-server.nmconnection"
)

// vpnServer carries out "add NAME", "remove NAME" and "off". The profile of a new client goes to stdout.
func (s *session) vpnServer(ctx context.Context, client netcontrol.Client, args []string, w wish) error {
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
	dir := filepath.Join(s.Root, keyimport.To)
	done, err := alone(dir)
	if err != nil {
		return cli.Silent(fmt.Errorf("change VPN server: %w", err))
	}
	defer done()
	if verb == "off" {
		err := os.Remove(filepath.Join(dir, serverFile))
		if errors.Is(err, fs.ErrNotExist) {
			return cli.Advise(errors.New("the device is no VPN server"), "osctl net vpn-server add NAME makes it one")
		}
		return err
	}
	change := netcontrol.ServerChange{Verb: verb, Client: args[1], Endpoint: w.endpoint}
	file, err := client.VPNServer(ctx, change)
	if err != nil {
		return cli.Unreachable(err, "netd", "try: osctl status netd")
	}
	if err := atomicfile.Write(filepath.Join(dir, serverFile), []byte(file.Text), 0o600); err != nil {
		return cli.Silent(fmt.Errorf("change VPN server: %w", err))
	}
	_, err = io.WriteString(s.Stdout, file.Profile)
	return err
}

// alone waits until nobody else changes the server: two changes at once would lose one of them.
func alone(dir string) (done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() { d.Close() }, nil // which gives the lock back
}
