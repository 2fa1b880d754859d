package netcommand

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/atomicfile"
	"resinos/net/netcontrol"
)

// keyVerb is the command that makes a pair of keys.
const keyVerb = "wireguard-key"

// peerRow shows one peer of a tunnel. Eight letters of the public key tell the peers of a link apart.
func (s *session) peerRow(link string, p netcontrol.Peer) []screen.Cell {
	shake, colour := "never", screen.Yellow
	if !p.Handshake.IsZero() {
		shake, colour = screen.Ago(time.Since(p.Handshake))+" ago", screen.Plain
	}
	return []screen.Cell{
		{Text: screen.Escape(link)}, {Text: screen.Escape(p.Key[:min(len(p.Key), 8)]) + "…"},
		{Text: screen.Escape(p.Endpoint)}, {Text: shake, Colour: colour},
		{Text: screen.Size(int64(p.Received))}, {Text: screen.Size(int64(p.Sent))},
	}
}

// wireguardKey makes a pair of keys. With a file, the private key goes there and nowhere else.
func (s *session) wireguardKey(ctx context.Context, client netcontrol.Client, files []string, dry bool) error {
	path := ""
	if len(files) > 0 {
		var err error
		if path, err = filepath.Abs(files[0]); err != nil {
			return err
		}
		if _, err := os.Lstat(path); err == nil {
			return cli.Advise(fmt.Errorf("create key: %s is there already", path), "choose another name")
		}
	}
	if dry {
		_, err := fmt.Fprintf(s.Stdout, "%s %s\n", keyVerb, path)
		return err
	}
	pair, err := client.WireGuardKey(ctx)
	if err != nil {
		return cli.Unreachable(err, "netd", "try: osctl status netd")
	}
	if path == "" {
		_, err = fmt.Fprintf(s.Stdout, "private-key=%s\npublic key: %s\n", pair.Private, pair.Public)
		return err
	}
	if err := atomicfile.Write(path, []byte(pair.Private+"\n"), 0o600); err != nil {
		return cli.Advise(fmt.Errorf("create key: %w", err),
			"name a file in a directory that can be written, such as /mnt/data or /etc/NetworkManager")
	}
	_, err = fmt.Fprintln(s.Stdout, pair.Public)
	return err
}
