//go:build sshd

package main

import (
	"resinos/init/recovery"
	"resinos/net/ssh"
)

// programs are the tools by name. The result is the exit status.
var programs = map[string]func(args []string) int{
	"recovery": recovery.Main,
	"scp":      ssh.Copy,
	"sshd":     ssh.Serve,
}
