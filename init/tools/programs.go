//go:build !sshd

package main

import (
	"resinos/containers/compose"
	"resinos/init/osctl/drawing"
	"resinos/init/updater"
	"resinos/net/modem"
	"resinos/net/ssh"
	"resinos/net/vpnclients"
)

// programs are the tools by name. The result is the exit status.
var programs = map[string]func(args []string) int{
	"compose":          compose.Main,
	"modem":            modem.Main,
	"picture":          drawing.Main,
	"pppup":            modem.Hook,
	"scp":              ssh.Copy,
	"sshd":             ssh.Serve,
	"updater":          updater.Main,
	"vpn-server":       vpnclients.Main,
	"wireguard-server": vpnclients.WireGuard,
}
