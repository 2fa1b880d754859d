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
		{"status", looking, "[--json] [NAME...]", "show how services and apps are, or all about some\nNAME is a service, an app, or APP/CONTAINER; exit status 3: one that was named is not up",
			"osctl status                 what is wrong comes first\nosctl status netd            one service with its processes and last lines\nosctl status hello/web       one container of the app hello\nosctl status --json netd", status},
		logsCommand(),
		{"top", looking, "[-n COUNT] [--json]", "show what services and containers use, again and again; q ends it", "osctl top\nosctl top -n 1              once, for a script", top},
		timeCommand(),
		spaceCommand(),
		verifyCommand(),
		{"graph", looking, "[--reverse] [--dot] [--json] [NAME]", "draw what services need, want and come after", "osctl graph manager          what it stands on\nosctl graph --reverse logd   what stands on it\nosctl graph --dot | dot -Tsvg > services.svg", graphOf},

		{"start", changing, "[-n] NAME...", "start services", "osctl start netd", change("start")},
		{"stop", changing, "[-n] NAME...", "stop services and those that need them", "osctl stop sshd", change("stop")},
		{"restart", changing, "[-n] NAME...", "stop and start services", "osctl restart manager", change("restart")},
		{"reload", changing, "[-n] NAME...", "have services read their configuration again", "osctl reload web", change("reload")},
		{"kill", changing, "[-n] [--signal NAME] [--all] NAME...", "send a signal to the main process of services", "osctl kill --signal HUP netd\nosctl kill --all web         every process of it", kill},

		configCommand(),

		{"check", defining, "[--root DIR] [--json] FILE...", "check service files before they are used; works on any machine", "osctl check /etc/resinos/services/web.toml", check},
		{"show", defining, "[--json] NAME", "show the definition in force and the files it comes from", "osctl show netd", show},
		{"mask", defining, "[-n] [--no-stop] NAME...", "stop services and keep them from ever starting", "osctl mask sshd", mask},
		{"unmask", defining, "[-n] NAME...", "let masked services start again", "osctl unmask sshd && osctl start sshd", unmask},
		{"rescan", defining, "[-n] [--json]", "read the service files again", "osctl rescan", rescan},

		{"boot", booting, "[--last] [--json]", "show the time line of this boot, or how the last one ended", "osctl boot\nosctl boot --last", bootLine},
		{"blame", booting, "[--json]", "list services by the time they took to be up", "osctl blame", blame},
		{"chain", booting, "[--json]", "show what the boot waited for, step by step", "osctl chain", chain},
		{"plan", booting, "[--json]", "show what a boot does, step by step, without doing it", "osctl plan", planned},

		{"reboot", powering, "[-n] [--force]", "stop everything in order and start the device again", "osctl reboot", power("reboot")},
		{"poweroff", powering, "[-n] [--force]", "stop everything in order and switch the device off", "osctl poweroff", power("poweroff")},
		purgeCommand(),
		{"re-exec", powering, "[-n]", "have PID 1 become its binary anew; services run on", "osctl re-exec", reexec},
		{"help", powering, "[COMMAND]", "say how a command is used", "osctl help logs", nil},
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
			about += " (" + f.DefValue + " if not said)"
		}
		rows = append(rows, []screen.Cell{{}, {Text: strings.TrimRight(dashes+f.Name+" "+name, " ")}, {Text: about}})
	})
	if len(rows) == 0 {
		return ""
	}
	return "\n" + (&screen.Screen{}).Table(rows)
}
