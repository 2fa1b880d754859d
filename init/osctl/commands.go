package osctl

import (
	"resinos/init/osctl/appcommand"
	"resinos/init/osctl/blink"
	"resinos/init/osctl/change"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/configuration"
	"resinos/init/osctl/dependency"
	"resinos/init/osctl/imagecommand"
	"resinos/init/osctl/logs"
	"resinos/init/osctl/netcommand"
	"resinos/init/osctl/servicefile"
	"resinos/init/osctl/status"
	"resinos/init/osctl/storage"
	"resinos/init/osctl/timeline"
	"resinos/init/osctl/timesync"
	"resinos/init/osctl/top"
	"resinos/init/osctl/updating"
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

// The themes of the overview, in its order.
const (
	looking     = "show"
	running     = "apps"
	changing    = "change"
	defining    = "service files"
	configuring = "config.json"
	booting     = "boot"
	powering    = "the device"
)

func themes() []string {
	return []string{looking, running, changing, configuring, defining, booting, powering}
}

func commands() []command { return append(own(), ofApps()...) }

// ofApps are the commands for apps and container images.
func ofApps() []command {
	var list []command
	for _, c := range append(appcommand.Commands(), imagecommand.Commands()...) {
		list = append(list, command{c.Name, running, c.Args, c.About, c.Example, c.Run})
	}
	return list
}

func own() []command {
	return []command{
		{
			name: "status", theme: looking, args: "[--json] [NAME...]",
			about: "Shows the state of services and apps, or everything about some of them.\n" +
				"NAME is a service, an app, or APP.SERVICE. Exit status 3: one of those named is not up.",
			example: "osctl status                 problems first\n" +
				"osctl status netd            one service with its processes and the last lines of its log\n" +
				"osctl status hello.web       one container of the app hello\n" +
				"osctl status --json netd",
			run: status.Show,
		},
		{
			name: "logs", theme: looking,
			args: "[NAME...] [-u NAME] " +
				"[-k] [-p PRIORITY] [-b [BOOT]] [--since TIME] [--until TIME] [--tail N] [-f] [-o FORM] " +
				"| --boots | --flush",
			about: "Shows the log of services, containers, syslog and the kernel. Times are UTC.",
			example: "osctl logs -f\n" +
				"osctl logs hello --tail 20                  an app with all its containers\n" +
				"osctl logs hello.web netd                   one of its containers, and a service\n" +
				"osctl logs -k -p warning                    warnings and errors of the kernel\n" +
				"osctl logs --since -5min -p err             errors of the last five minutes\n" +
				"osctl logs --since 10:00 --until 10:05      also \"2026-11-25 10:00\", today, \"2h ago\", boot+90s\n" +
				"osctl logs --boots                          the boots whose log is kept\n" +
				"osctl logs -b -1 --lines 50                 the end of the previous boot\n" +
				"osctl logs --flush                          writes the log to disk now and not in up to 5 minutes, " +
				"if persistentLogging is set\n" +
				"osctl logs -o json -u netd                  for programs",
			run: logs.Show,
		},
		{
			name: "top", theme: looking, args: "[--count COUNT] [--json] [APP[.SERVICE]...]",
			about: "Shows the resource usage of services and containers repeatedly; q quits.\n" +
				"With the name of an app or a container it lists the processes in it, once.",
			example: "osctl top\n" +
				"osctl top --count 1         once, for a script\n" +
				"osctl top shop.web          the processes of a container",
			run: appcommand.Processes(top.Show),
		},
		{
			name: "net", theme: looking,
			args: "[--json] | plan [--json] | up [-n] NAME | down [-n] NAME | reload | " +
				"add [-n] [--link LINK] [--address A/B [--gateway A]] [--dns A,...] NAME | " +
				"wireguard-key [-n] [FILE] | " +
				"vpn-server [-n] add [--endpoint HOST[:PORT]] NAME | vpn-server [-n] remove NAME | " +
				"vpn-server [-n] off | wireguard-server (the same) | " +
				"scan [--json] | connect [-n] [--link LINK] [--open] [--hidden] SSID",
			about: "Shows links, profiles, addresses, routes and name servers, and changes profiles.\n" +
				"A profile is a key file in /etc/NetworkManager/system-connections.",
			example: "osctl net                                all of it\n" +
				"osctl net plan                           what every profile gives its link\n" +
				"osctl net down office                    until the next start of netd\n" +
				"osctl net add --link eth0 --address 192.168.1.50/24 --gateway 192.168.1.1 --dns 1.1.1.1 office\n" +
				"osctl net wireguard-key /mnt/data/wg.key writes a private key to the file, prints the public key\n" +
				"osctl net vpn-server add laptop          the device as VPN server; prints a client's profile\n" +
				"osctl net wireguard-server add laptop    the same with wireguard\n" +
				"osctl net scan                           which Wi-Fi networks are in range\n" +
				"osctl net connect home                   asks for the password, and joins",
			run: netcommand.Show,
		},
		{
			name: "time", theme: looking, args: "[--json]",
			about: "Shows clock synchronisation and the state of each time server.",
			example: "osctl time\n" +
				"osctl time --json",
			run: timesync.Show,
		},
		{
			name: "space", theme: looking, args: "[--who] [--json]",
			about: "Shows how full the partitions are, what uses data, and what is reserved for the system.",
			example: "osctl space\n" +
				"osctl space --who                       what uses data, even if data is not full",
			run: storage.Show,
		},
		{
			name: "verify", theme: looking, args: "[--json] [NAME...]",
			about: "Compares the files of the image with their fingerprints.\n" +
				"NAME is root or boot. Exit status 1: a file is missing or differs.",
			example: "osctl verify                 both; reads every file\n" +
				"osctl verify --json boot",
			run: storage.Verify,
		},
		{
			name: "graph", theme: looking, args: "[--reverse] [--svg | --dot | --json] [NAME]",
			about: "Shows which services each service needs, wants and starts after.",
			example: "osctl graph manager          the services that manager depends on\n" +
				"osctl graph --reverse logd   the services that depend on logd\n" +
				"osctl graph --svg > services.svg   for a browser\n" +
				"osctl graph --dot | dot -Tpdf > services.pdf",
			run: dependency.Show,
		},

		{
			name: "start", theme: changing, args: "[-n] NAME...",
			about: "Starts services, apps and containers of apps.",
			example: "osctl start netd\n" +
				"osctl start hello.web",
			run: appcommand.Or(change.Service(pid1.Start), pid1.Start),
		},
		{
			name: "stop", theme: changing, args: "[-n] NAME...",
			about: "Stops services and the services that need them, apps, and containers of apps.\n" +
				"A container stays stopped until it is started; with restart: always only until the next boot.",
			example: "osctl stop sshd\n" +
				"osctl stop hello\n" +
				"osctl stop hello.web",
			run: appcommand.Or(change.Service(pid1.Stop), pid1.Stop),
		},
		{
			name: "restart", theme: changing, args: "[-n] NAME...",
			about: "Stops and starts services, apps and containers of apps.",
			example: "osctl restart manager\n" +
				"osctl restart hello.web",
			run: appcommand.Or(change.Service(pid1.Restart), pid1.Restart),
		},
		{
			name: "reload", theme: changing, args: "[-n] NAME...",
			about:   "Makes services read their configuration again.",
			example: "osctl reload web",
			run:     change.Service(pid1.Reload),
		},
		{
			name: "kill", theme: changing, args: "[-n] [--signal NAME] [--all] NAME...",
			about: "Sends a signal to the main process of services.",
			example: "osctl kill --signal HUP netd\n" +
				"osctl kill --all web         to every process of the service",
			run: change.Kill,
		},

		{
			name: "config", theme: configuring,
			args:  "[--all] [--json] | get KEY | set [-n] KEY VALUE | unset [-n] KEY | restore [-n]",
			about: "Shows config.json and the effect of each key, or changes it.",
			example: "osctl config                            every known key, and every other key that is set\n" +
				"osctl config set hostname kitchen\n" +
				"osctl config set dnsServers '1.1.1.1 9.9.9.9'\n" +
				"osctl config unset dnsServers\n" +
				"osctl config restore                    replaces a broken file by the last good copy",
			run: configuration.Configure,
		},

		{
			name: "check", theme: defining, args: "[--root DIR] [--json] FILE...",
			about:   "Checks service files before they are used. Works on any machine.",
			example: "osctl check /etc/resinos/services/web.toml",
			run:     servicefile.Check,
		},
		{
			name: "show", theme: defining, args: "[--json] NAME",
			about:   "Shows the definition of a service that is in force, and the files it comes from.",
			example: "osctl show netd",
			run:     servicefile.Show,
		},
		{
			name: "mask", theme: defining, args: "[-n] [--no-stop] NAME...",
			about:   "Stops services and keeps them from starting.",
			example: "osctl mask sshd",
			run:     servicefile.Mask,
		},
		{
			name: "unmask", theme: defining, args: "[-n] NAME...",
			about:   "Allows masked services to start again.",
			example: "osctl unmask sshd && osctl start sshd",
			run:     servicefile.Unmask,
		},
		{
			name: "rescan", theme: defining, args: "[-n] [--json]",
			about:   "Reads the service files again.",
			example: "osctl rescan",
			run:     servicefile.Rescan,
		},

		{
			name: "boot", theme: booting, args: "[--svg | [--last] [--json]]",
			about: "Shows the time line of this boot, or how the last boot ended.",
			example: "osctl boot\n" +
				"osctl boot --last\n" +
				"osctl boot --svg > boot.svg     up to the first container, for a browser\n" +
				"ssh root@DEVICE osctl boot --svg > boot.svg",
			run: timeline.Boot,
		},
		{
			name: "blame", theme: booting, args: "[--json]",
			about:   "Lists services by the time they took to come up.",
			example: "osctl blame",
			run:     timeline.Blame,
		},
		{
			name: "chain", theme: booting, args: "[--json]",
			about:   "Shows what the boot had to wait for, step by step.",
			example: "osctl chain",
			run:     timeline.Chain,
		},
		{
			name: "plan", theme: booting, args: "[--json]",
			about:   "Shows the steps of a boot without carrying them out.",
			example: "osctl plan",
			run:     timeline.Plan,
		},

		{
			name: "update", theme: powering,
			args: "[-n] [--json] [--again] [--older] [--no-reboot] [--override-locks] FILE|URL|REF | " +
				"status | history | rollback | confirm",
			about: "Installs another version of the system, or shows and changes the state of an update.\n" +
				"If a boot does not confirm the version, the device goes back to the one before (docs/updates.md).",
			example: "osctl update -n https://updates.example/resinos.bundle\n" +
				"osctl update registry.example/resinos:0.2.0  from an OCI registry\n" +
				"osctl update /mnt/data/resinos.bundle\n" +
				"osctl update status\n" +
				"osctl update history             why updates failed\n" +
				"osctl update rollback            back to the version in the other slot\n" +
				"osctl update confirm             stays with a version on trial, whatever the checks say",
			run: updating.Update,
		},
		{
			name: "blink", theme: powering, args: "[-n] [--for TIME]",
			about:   "Blinks a light, so that a person finds the device: the board's, a keyboard's, or the screen.",
			example: "osctl blink\nosctl blink --for 2m",
			run:     blink.Show,
		},
		{
			name: "reboot", theme: powering, args: "[-n] [--force]",
			about:   "Stops everything in order and reboots the device.",
			example: "osctl reboot",
			run:     change.Power(pid1.Reboot),
		},
		{
			name: "poweroff", theme: powering, args: "[-n] [--force]",
			about:   "Stops everything in order and switches the device off.",
			example: "osctl poweroff",
			run:     change.Power(pid1.PowerOff),
		},
		{
			name: "purge", theme: powering, args: "[-n] [--yes] state|data",
			about: "Resets the device to factory state (state), or removes all apps and their data (data), " +
				"at the next boot.\n" +
				"state keeps config.json (and so the UUID) and the apps.",
			example: "osctl purge state            Resets the device to factory state. " +
				"Keeps config.json (and so the UUID) and the apps.\n" +
				"osctl purge --yes data && osctl reboot",
			run: storage.Purge,
		},
		{
			name: "re-exec", theme: powering, args: "[-n]",
			about:   "Re-executes PID 1 without stopping services.",
			example: "osctl re-exec",
			run:     change.Reexec,
		},
		{
			name: "help", theme: powering, args: "[COMMAND]",
			about:   "Shows how to use a command.",
			example: "osctl help logs",
		},
	}
}
