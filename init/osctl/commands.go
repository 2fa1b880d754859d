package osctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"resinos/init/osctl/change"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/configuration"
	"resinos/init/osctl/dependency"
	"resinos/init/osctl/logs"
	"resinos/init/osctl/screen"
	"resinos/init/osctl/servicefile"
	"resinos/init/osctl/storage"
	"resinos/init/osctl/timeline"
	"resinos/init/osctl/timesync"
	"resinos/init/osctl/top"
	"resinos/services/pid1"
)

// A command is one word that can follow osctl.
type command struct {
	name    string
	theme   string // the group that the overview lists it in
	args    string // after the name, for the usage line
	about   string
	example string
	run     cli.Run
}

// on makes a cli.Run of a function of this package.
func on(do func(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error) cli.Run {
	return func(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
		return do(ctx, &session{s}, flags, args)
	}
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
			"osctl status                 problems first\nosctl status netd            one service with its processes and the last lines of its log\nosctl status hello/web       one container of the app hello\nosctl status --json netd", on(status)},
		logsCommand(),
		{"top", looking, "[--count COUNT] [--json]", "Shows the resource usage of services and containers repeatedly; q quits.", "osctl top\nosctl top --count 1         once, for a script", top.Show},
		timeCommand(),
		spaceCommand(),
		verifyCommand(),
		{"graph", looking, "[--reverse] [--dot] [--json] [NAME]", "Shows which services each service needs, wants and starts after.", "osctl graph manager          the services that manager depends on\nosctl graph --reverse logd   the services that depend on logd\nosctl graph --dot | dot -Tsvg > services.svg", dependency.Show},

		{"start", changing, "[-n] NAME...", "Starts services.", "osctl start netd", change.Service(pid1.Start)},
		{"stop", changing, "[-n] NAME...", "Stops services and the services that need them.", "osctl stop sshd", change.Service(pid1.Stop)},
		{"restart", changing, "[-n] NAME...", "Stops and starts services.", "osctl restart manager", change.Service(pid1.Restart)},
		{"reload", changing, "[-n] NAME...", "Makes services read their configuration again.", "osctl reload web", change.Service(pid1.Reload)},
		{"kill", changing, "[-n] [--signal NAME] [--all] NAME...", "Sends a signal to the main process of services.", "osctl kill --signal HUP netd\nosctl kill --all web         to every process of the service", change.Kill},

		configCommand(),

		{"check", defining, "[--root DIR] [--json] FILE...", "Checks service files before they are used. Works on any machine.", "osctl check /etc/resinos/services/web.toml", servicefile.Check},
		{"show", defining, "[--json] NAME", "Shows the definition of a service that is in force, and the files it comes from.", "osctl show netd", servicefile.Show},
		{"mask", defining, "[-n] [--no-stop] NAME...", "Stops services and keeps them from starting.", "osctl mask sshd", servicefile.Mask},
		{"unmask", defining, "[-n] NAME...", "Allows masked services to start again.", "osctl unmask sshd && osctl start sshd", servicefile.Unmask},
		{"rescan", defining, "[-n] [--json]", "Reads the service files again.", "osctl rescan", servicefile.Rescan},

		{"boot", booting, "[--last] [--json]", "Shows the time line of this boot, or how the last boot ended.", "osctl boot\nosctl boot --last", timeline.Boot},
		{"blame", booting, "[--json]", "Lists services by the time they took to come up.", "osctl blame", timeline.Blame},
		{"chain", booting, "[--json]", "Shows what the boot had to wait for, step by step.", "osctl chain", timeline.Chain},
		{"plan", booting, "[--json]", "Shows the steps of a boot without carrying them out.", "osctl plan", timeline.Plan},

		{"reboot", powering, "[-n] [--force]", "Stops everything in order and reboots the device.", "osctl reboot", change.Power(pid1.Reboot)},
		{"poweroff", powering, "[-n] [--force]", "Stops everything in order and switches the device off.", "osctl poweroff", change.Power(pid1.PowerOff)},
		purgeCommand(),
		{"re-exec", powering, "[-n]", "Re-executes PID 1 without stopping services.", "osctl re-exec", change.Reexec},
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
		flags := cli.Flags(c.name)
		// Parsing -h runs no command: it only defines the flags and stops.
		_ = c.run(context.Background(), &cli.Session{}, flags, []string{"-h"})
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

// configCommand is the row of the table: the verbs follow the word config.
func configCommand() command {
	return command{"config", configuring, "[--all] [--json] | get KEY | set [-n] KEY VALUE | unset [-n] KEY | restore [-n]",
		"Shows config.json and the effect of each key, or changes it.", "osctl config                            every known key, and every other key that is set\n" +
			"osctl config set hostname kitchen\nosctl config set dnsServers '1.1.1.1 9.9.9.9'\nosctl config unset dnsServers\nosctl config restore                    replaces a broken file by the last good copy", configuration.Configure}
}

// logsCommand is the row of logs in the table of commands.
func logsCommand() command {
	return command{
		"logs", looking, "[-u NAME] [-k] [-p PRIORITY] [-b [BOOT]] [--since TIME] [--until TIME] [--lines N] [-f] [-o FORM] | --boots | --flush",
		"Shows the log of services, containers, syslog and the kernel. Times are UTC.",
		`osctl logs -f
osctl logs -u hello --lines 20              an app with all its containers
osctl logs -u hello.web -u netd             one of its containers, and a service
osctl logs -k -p warning                    warnings and errors of the kernel
osctl logs --since -5min -p err             errors of the last five minutes
osctl logs --since 10:00 --until 10:05      also "2026-11-25 10:00", today, "2h ago", boot+90s
osctl logs --boots                          the boots whose log is kept
osctl logs -b -1 --lines 50                 the end of the previous boot
osctl logs --flush                          writes the log to disk now and not in up to 5 minutes, if persistentLogging is set
osctl logs -o json -u netd                  for programs`, logs.Show,
	}
}

func timeCommand() command {
	return command{"time", looking, "[--json]", "Shows clock synchronisation and the state of each time server.",
		"osctl time\nosctl time --json", timesync.Show}
}

func spaceCommand() command {
	return command{"space", looking, "[--who] [--json]", "Shows how full the partitions are, what uses data, and what is reserved for the system.", "osctl space\nosctl space --who                       what uses data, even if there is room", storage.Show}
}

func verifyCommand() command {
	return command{"verify", looking, "[--json] [NAME...]", "Compares the files of the image with their fingerprints.\nNAME is root or boot. Exit status 1: a file is missing or differs.",
		"osctl verify                 both; reads every file\nosctl verify --json boot", storage.Verify}
}

func purgeCommand() command {
	return command{"purge", powering, "[-n] [--yes] state|data", "Resets the device to factory state (state), or removes all apps and their data (data), at the next boot.\nstate keeps config.json (and so the UUID) and the apps.",
		"osctl purge state            Resets the device to factory state. Keeps config.json (and so the UUID) and the apps.\nosctl purge --yes data && osctl reboot", storage.Purge}
}
