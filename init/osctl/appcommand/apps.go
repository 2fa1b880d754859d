// Package appcommand owns the commands of osctl that are about apps and their containers, with the names and flags that
// docker's users know. It shows the status that the manager publishes and the figures of the control groups, and asks
// the manager for every change. To run a program in a container it asks the manager once and then needs neither manager
// nor engine (exec.go). It links nothing of containerd. Read Commands first.
package appcommand

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/inventory"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// Command is one word that can follow osctl.
type Command struct {
	Name, Args, About, Example string
	Run                        cli.Run
}

// Commands are the commands of this package, in the order of the overview.
func Commands() []Command {
	return []Command{
		{"apps", "[--json] | plan [--json] [APP]",
			"Lists the apps, or shows the steps from what runs to what is wanted.",
			"osctl apps\nosctl apps plan              what the manager would do now\nosctl apps plan hello", listApps},
		{"ps", "[-a] [--json] [APP]", "Lists the containers that run; -a lists all of them.",
			"osctl ps\nosctl ps -a shop", ps},
		{"up", "[-n] [APP]",
			"Starts what was stopped or has ended in an app, or in all apps. Undoes osctl down.",
			"osctl up hello", up},
		{"down", "[-n] [-v] APP",
			"Stops and removes the containers of an app. It stays down over reboots, until up.\n" +
				"-v removes its volumes too, with all that is in them.",
			"osctl down hello\nosctl down -n -v hello       shows what would go", down},
		{"exec", "[-i] [-t] [-e NAME=VALUE] [-u USER] [-w DIR] APP[.SERVICE] COMMAND [ARG...]",
			"Runs a command in a running container. The exit status is the command's.",
			"osctl exec -it hello.web sh\nosctl exec hello.web cat /etc/hostname\n" +
				"echo x | osctl exec -i hello.web tee /tmp/x", execute},
		{"run", "[--rm] [-i] [-t] [-e NAME=VALUE] [-u USER] [-w DIR] APP.SERVICE [COMMAND...]",
			"Runs a command in a new container that is like that of a service: its image, volumes, networks.\n" +
				"Without COMMAND it runs the service's. The container is removed when its last process ends.",
			"osctl run --rm shop.web ./manage.py migrate\nosctl run -it shop.db sh", runNew},
		{"cp", "[-a] APP.SERVICE:PATH PATH|- | PATH|- APP.SERVICE:PATH",
			"Copies files and directories out of a running container, or into it. - is a tar stream.\n" +
				"PATH/. is the content of a directory. Files in volumes are copied too.",
			"osctl cp shop.web:/var/log/nginx .\nosctl cp nginx.conf shop.web:/etc/nginx/\n" +
				"osctl cp shop.db:/var/lib/data - | ssh HOST tar x", cp},
		{"port", "[--json] APP[.SERVICE]", "Lists the published ports of containers.", "osctl port hello.web", port},
		{"inspect", "APP[.SERVICE]", "Shows all that the manager knows of containers, in JSON.",
			"osctl inspect hello.web", inspect},
		{"events", "[--no-follow] [--json] [APP[.SERVICE]]",
			"Shows when containers start, end or change their health, as it happens.",
			"osctl events\nosctl events --no-follow --json hello", events},
		{"stats", "[--no-stream] [--json] [APP[.SERVICE]...]",
			"Shows what containers use of processor, memory and disk, every two seconds; Ctrl-C quits.",
			"osctl stats\nosctl stats --no-stream hello", stats},
	}
}

// Client asks the manager.
func Client(s *cli.Session) appcontrol.Client {
	return appcontrol.Client{Socket: filepath.Join(s.Root, appcontrol.SocketPath)}
}

// Unreachable says so if the manager does not answer.
func Unreachable(err error) error {
	return cli.Unreachable(err, "the manager", "try: osctl status manager")
}

// published is the status of the apps.
func published(s *cli.Session) (appstatus.Status, error) {
	status, err := appstatus.Read(filepath.Join(s.Root, appstatus.Path))
	if err != nil {
		return status, cli.Advise(fmt.Errorf("nothing is known of the apps: %w", err), "try: osctl status manager")
	}
	return status, nil
}

// pick finds the containers that a name stands for; the empty name is all.
func pick(status appstatus.Status, name string) ([]appstatus.Container, error) {
	want := appcontrol.Parse(name)
	var names []string
	var found []appstatus.Container
	for _, a := range status.Apps {
		names = append(names, a.Name)
		if name != "" && a.Name != want.App {
			continue
		}
		var services []string
		for _, c := range a.Containers {
			services = append(services, c.Name)
			if want.Service == "" || c.Name == want.Service {
				found = append(found, c)
			}
		}
		if want.Service != "" && len(found) == 0 {
			err := fmt.Errorf("app %s has no container %q", screen.Escape(a.Name), want.Service)
			return nil, cli.Advise(err, others("it has", want.Service, services))
		}
	}
	if name != "" && !slices.Contains(names, want.App) {
		return nil, cli.Advise(fmt.Errorf("no app %q", want.App), others("the apps are", want.App, names))
	}
	return found, nil
}

// others names what there is instead.
func others(what, name string, names []string) string {
	if near := cli.Nearest(name, names); near != "" {
		return "did you mean " + screen.Escape(near) + "?"
	}
	if len(names) == 0 {
		return "there is none"
	}
	return what + ": " + screen.Escape(strings.Join(names, ", "))
}

// Or makes a command for services and apps: the names that are those of apps or containers and of no service are
// the manager's, the others are handed on.
func Or(service cli.Run, op pid1.Change) cli.Run {
	return func(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
		var names, rest []string
		dry := false
		for _, arg := range args {
			switch {
			case arg == "-n" || arg == "--n":
				dry = true
				rest = append(rest, arg)
			case !strings.HasPrefix(arg, "-") && means(ctx, s, arg):
				names = append(names, arg)
			default:
				rest = append(rest, arg)
			}
		}
		for _, name := range names {
			if err := change(ctx, s, string(op), appcontrol.Parse(name), dry); err != nil {
				return err
			}
		}
		if len(names) > 0 && !slices.ContainsFunc(rest, func(arg string) bool { return !strings.HasPrefix(arg, "-") }) {
			return nil
		}
		return service(ctx, s, flags, rest)
	}
}

// means reports whether a name is that of an app or a container and of no service.
func means(ctx context.Context, s *cli.Session, name string) bool {
	services, err := s.Services(ctx)
	if err != nil || inventory.Named(services, name) != nil {
		return false
	}
	if strings.ContainsAny(name, "./") { // no service's
		return true
	}
	status, err := published(s)
	return err == nil && slices.ContainsFunc(status.Apps, func(a appstatus.App) bool { return a.Name == name })
}

// change has the manager start, stop or restart an app or a container, and says how it is then.
func change(ctx context.Context, s *cli.Session, op string, a appcontrol.App, dry bool) error {
	if dry {
		_, err := fmt.Fprintln(s.Stdout, op, thing(a))
		if err == nil && a.Volumes {
			err = showVolumes(s, a.App)
		}
		return err
	}
	ended := pulling(s, a)
	err := Client(s).Change(ctx, op, a)
	ended()
	if err != nil {
		return Unreachable(err)
	}
	return outcome(s, op, a)
}

func thing(a appcontrol.App) string {
	switch {
	case a.App == "":
		return "all apps"
	case a.Service == "":
		return "app " + screen.Escape(a.App)
	}
	return "container " + screen.Escape(a.String())
}

// outcome says how what was changed is now. The manager has told it to the status file before it answered.
func outcome(s *cli.Session, op string, a appcontrol.App) error {
	if op == appcontrol.OpDown {
		what := ""
		if a.Volumes {
			what = ", and its volumes are removed"
		}
		_, err := fmt.Fprintf(s.Stdout, "%s is down%s\n", screen.Escape(a.App), what)
		return err
	}
	status, err := published(s)
	if err != nil {
		return err
	}
	list, err := pick(status, a.String())
	if err != nil {
		return err
	}
	for _, c := range list {
		fmt.Fprintf(s.Stdout, "%s is %s\n", screen.Escape(c.ID), state(s, &c))
	}
	return nil
}

func up(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	names, err := cli.Parse(flags, args)
	switch {
	case err != nil:
		return err
	case len(names) > 1:
		return cli.Misuse("up takes one app, or none for all", "try: osctl up "+names[0])
	}
	return change(ctx, s, appcontrol.OpUp, appcontrol.Parse(strings.Join(names, "")), *dry)
}

func down(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	volumes := flags.Bool("v", false, "removes the volumes of the app too, with all that is in them")
	name, err := one(flags, args, "an app")
	if err != nil {
		return err
	}
	a := appcontrol.Parse(name)
	if a.Service != "" {
		return cli.Misuse("down takes a whole app", "try: osctl stop "+name)
	}
	a.Volumes = *volumes
	return change(ctx, s, appcontrol.OpDown, a, *dry)
}

// one parses flags for a command that takes one name.
func one(flags *flag.FlagSet, args []string, what string) (string, error) {
	names, err := cli.Parse(flags, args)
	if err == nil && len(names) != 1 {
		err = cli.Misuse(flags.Name()+" needs the name of "+what, "try: osctl apps")
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

func listApps(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	switch {
	case err != nil:
		return err
	case len(names) > 0 && names[0] == "plan" && len(names) < 3:
		return plan(ctx, s, strings.Join(names[1:], ""), *asJSON)
	case len(names) > 0:
		return cli.Misuse(fmt.Sprintf("apps takes no argument %q", names[0]), "try: osctl ps -a "+names[0])
	}
	status, err := published(s)
	if err != nil {
		return err
	}
	if *asJSON {
		return s.PrintJSON(status)
	}
	if status.Wrong() {
		fmt.Fprintln(s.Stdout, s.Paint(screen.Red, s.Fit("apps: "+screen.Escape(status.Reason))))
	}
	rows := [][]screen.Cell{screen.Header("APP", "STATE", "UP", ">SINCE", "NOTE")}
	for i := range status.Apps {
		a := &status.Apps[i]
		running := 0
		for _, c := range a.Containers {
			if c.State == appstatus.Up {
				running++
			}
		}
		rows = append(rows, []screen.Cell{{Text: screen.Escape(a.Name)},
			{Text: string(a.State), Colour: colour(a.State, a.Wrong())},
			{Text: fmt.Sprintf("%d/%d", running, len(a.Containers))},
			{Text: screen.Ago(s.Since(a.Entered)), Right: true},
			{Text: screen.InLine(note(a))}})
	}
	if len(rows) == 1 {
		_, err := fmt.Fprintln(s.Stderr, "no apps: an app is a directory in /mnt/data/apps with a compose.yaml")
		return err
	}
	_, err = fmt.Fprint(s.Stdout, s.Table(rows))
	return err
}

// note is what is wrong with an app, or what one of its containers waits for.
func note(a *appstatus.App) string {
	if a.Wrong() {
		return a.Reason
	}
	for _, c := range a.Containers {
		if c.Waits != "" {
			return c.Name + " " + c.Waits
		}
	}
	return ""
}

func plan(ctx context.Context, s *cli.Session, name string, asJSON bool) error {
	steps, err := Client(s).Plan(ctx, appcontrol.Parse(name))
	if err != nil {
		return Unreachable(err)
	}
	if asJSON {
		return s.PrintJSON(steps)
	}
	for _, step := range steps {
		text := fmt.Sprintf("%s %s (%s)", step.Verb, step.Container, step.Why)
		if step.In > 0 {
			text += " in " + screen.Ago(time.Duration(step.In*float64(time.Second)))
		}
		fmt.Fprintln(s.Stdout, screen.Escape(text))
	}
	if len(steps) == 0 {
		fmt.Fprintln(s.Stderr, "all is as wanted")
	}
	return nil
}
