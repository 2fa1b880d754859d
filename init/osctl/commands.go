package osctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// A command is one word that can follow osctl.
type command struct {
	name    string
	theme   string // the group that the overview lists it in
	args    string // after the name, for the usage line
	about   string
	example string
	run     func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error
}

// The themes of the overview, in its order.
const (
	looking     = "look"
	changing    = "change"
	defining    = "service files"
	configuring = "config.json"
	booting     = "boot"
	powering    = "the device"
)

func themes() []string { return []string{looking, changing, configuring, defining, booting, powering} }

func commands() []command {
	return []command{
		{"status", looking, "[--json] [NAME...]", "Shows the state of services and apps, or everything about some of them.\nNAME is a service, an app, or APP/CONTAINER. Exit status 3: a named one is not up.",
			"osctl status                 problems first\nosctl status netd            one service with its processes and the last lines of its log\nosctl status hello/web       one container of the app hello\nosctl status --json netd", status},
		logsCommand(),
		{"top", looking, "[--count COUNT] [--json]", "Shows the resource usage of services and containers repeatedly; q quits.", "osctl top\nosctl top --count 1         once, for a script", top},
		timeCommand(),
		spaceCommand(),
		verifyCommand(),
		{"graph", looking, "[--reverse] [--dot] [--json] [NAME]", "Shows which services each service needs, wants and starts after.", "osctl graph manager          the services that manager depends on\nosctl graph --reverse logd   the services that depend on logd\nosctl graph --dot | dot -Tsvg > services.svg", graphOf},

		{"start", changing, "[-n] NAME...", "Starts services.", "osctl start netd", change("start")},
		{"stop", changing, "[-n] NAME...", "Stops services and the services that need them.", "osctl stop sshd", change("stop")},
		{"restart", changing, "[-n] NAME...", "Stops and starts services.", "osctl restart manager", change("restart")},
		{"reload", changing, "[-n] NAME...", "Makes services read their configuration again.", "osctl reload web", change("reload")},
		{"kill", changing, "[-n] [--signal NAME] [--all] NAME...", "Sends a signal to the main process of services.", "osctl kill --signal HUP netd\nosctl kill --all web         to every process of the service", kill},

		configCommand(),

		{"check", defining, "[--root DIR] [--json] FILE...", "Checks service files before they are used. Works on any machine.", "osctl check /etc/resinos/services/web.toml", check},
		{"show", defining, "[--json] NAME", "Shows the definition of a service that is in force, and the files it comes from.", "osctl show netd", show},
		{"mask", defining, "[-n] [--no-stop] NAME...", "Stops services and keeps them from starting.", "osctl mask sshd", mask},
		{"unmask", defining, "[-n] NAME...", "Allows masked services to start again.", "osctl unmask sshd && osctl start sshd", unmask},
		{"rescan", defining, "[-n] [--json]", "Reads the service files again.", "osctl rescan", rescan},

		{"boot", booting, "[--last] [--json]", "Shows the time line of this boot, or how the last boot ended.", "osctl boot\nosctl boot --last", bootLine},
		{"blame", booting, "[--json]", "Lists services by the time they took to come up.", "osctl blame", blame},
		{"chain", booting, "[--json]", "Shows what the boot had to wait for, step by step.", "osctl chain", chain},
		{"plan", booting, "[--json]", "Shows the steps of a boot without carrying them out.", "osctl plan", planned},

		{"reboot", powering, "[-n] [--force]", "Stops everything in order and reboots the device.", "osctl reboot", power("reboot")},
		{"poweroff", powering, "[-n] [--force]", "Stops everything in order and switches the device off.", "osctl poweroff", power("poweroff")},
		purgeCommand(),
		{"re-exec", powering, "[-n]", "Re-executes PID 1 without stopping services.", "osctl re-exec", reexec},
		{"help", powering, "[COMMAND]", "Shows how to use a command.", "osctl help logs", nil},
	}
}

func find(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

func (s *session) help(args []string) error {
	if len(args) == 0 {
		_, err := io.WriteString(s.Stdout, overview()+"\n")
		return err
	}
	c, ok := find(args[0])
	if !ok {
		return noCommand(args[0])
	}
	_, err := io.WriteString(s.Stdout, c.manual())
	return err
}

func noCommand(name string) error {
	hint := "osctl help"
	if near := cli.Nearest(name, commandNames()); near != "" {
		hint = "osctl " + near
	}
	return cli.Misuse(fmt.Sprintf("no command %q", name), "try: "+hint)
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

func overview() string {
	var b strings.Builder
	b.WriteString("usage: osctl COMMAND\n")
	for _, theme := range themes() {
		fmt.Fprintf(&b, "\n%s:\n", theme)
		for _, c := range commands() {
			if c.theme == theme {
				about, _, _ := strings.Cut(c.about, "\n")
				fmt.Fprintf(&b, "  %-9s %s\n", c.name, about)
			}
		}
	}
	b.WriteString("\ntry: osctl help COMMAND")
	return b.String()
}

func (c command) manual() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: osctl %s %s\n\n%s\n", c.name, c.args, c.about)
	if c.run != nil {
		flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		// Parsing -h runs no command: it only defines the flags and stops.
		_ = c.run(context.Background(), &session{&cli.Session{}}, flags, []string{"-h"})
		b.WriteString(options(flags))
	}
	fmt.Fprintf(&b, "\nexamples:\n  %s\n", strings.ReplaceAll(c.example, "\n", "\n  "))
	return b.String()
}

// options lists the flags in two columns.
func options(flags *flag.FlagSet) string {
	var rows [][]screen.Cell
	flags.VisitAll(func(f *flag.Flag) {
		name, about := flag.UnquoteUsage(f)
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			about += " (" + f.DefValue + " by default)"
		}
		rows = append(rows, []screen.Cell{{}, {Text: strings.TrimRight(dashes+f.Name+" "+name, " ")}, {Text: about}})
	})
	if len(rows) == 0 {
		return ""
	}
	return "\n" + (&screen.Screen{}).Table(rows)
}
