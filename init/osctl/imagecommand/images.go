// Package imagecommand owns the commands of osctl that are about container images, in the words that docker's users
// know: images, pull, load, prune, rmi. The manager does the work; the commands show its progress. It links nothing of
// containerd. Read Commands first.
package imagecommand

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/appcommand"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// Commands are the commands of this package, in the order of the overview.
func Commands() []appcommand.Command {
	return []appcommand.Command{
		{Name: "images", Args: "[--json]",
			About: "Lists the container images: what each takes on the disk, and what uses it.\n" +
				"A partial image was not pulled to its end: the next pull continues it.",
			Example: "osctl images", Run: list},
		{Name: "pull", Args: "[--json] IMAGE",
			About: "Pulls a container image from its registry. An interrupted pull continues where it stopped.\n" +
				"A running container keeps its image until osctl up.",
			Example: "osctl pull nginx:1.27\nosctl pull registry.lan:5000/shop/web@sha256:...", Run: pull},
		{Name: "load", Args: "[--json] FILE|- or --docker IMAGE",
			About: "Loads container images from an archive, or from Docker's daemon on this device.\n" +
				"The archive is what docker save writes, or an OCI layout in a tar file, compressed or not;\n" +
				"- reads standard input. --docker takes over an image that Docker's daemon has built or pulled\n" +
				"(development and standalone images).",
			Example: "osctl load web.tar\ndocker save shop/web | ssh root@DEVICE osctl load -\n" +
				"osctl load --docker shop/web", Run: load},
		{Name: "prune", Args: "[-n] [--json]",
			About: "Removes the container images that no app needs, and the remains of interrupted pulls.\n" +
				"Images that apps name stay, also those of an app that is down.",
			Example: "osctl prune -n               shows what would be removed\nosctl prune", Run: prune},
		{Name: "rmi", Args: "[-n] [--json] IMAGE", About: "Removes one container image that no app needs.",
			Example: "osctl rmi nginx:1.26", Run: remove},
	}
}

func list(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	images, err := appcommand.Client(s).Images(ctx)
	if err != nil {
		return appcommand.Unreachable(err)
	}
	if *asJSON {
		return s.PrintJSON(images)
	}
	rows := [][]screen.Cell{screen.Header("IMAGE", "DIGEST", ">SIZE", "CAME", "USED BY")}
	for _, i := range images {
		rows = append(rows, []screen.Cell{{Text: screen.Escape(appcommand.Short(i.Name))}, {Text: digest(i)},
			{Text: screen.Size(i.Size), Right: true}, {Text: i.Created.UTC().Format("2006-01-02 15:04")}, users(i)})
	}
	if len(images) == 0 {
		_, err := fmt.Fprintln(s.Stderr, "no container images: osctl pull IMAGE fetches one, and an app its own")
		return err
	}
	_, err = fmt.Fprint(s.Stdout, s.Table(rows))
	return err
}

// digest is the beginning of an image's digest, as docker shows it.
func digest(i appcontrol.Image) string {
	_, hex, _ := strings.Cut(i.Digest, ":")
	switch {
	case i.Partial:
		return "(partial)"
	case len(hex) < 12:
		return "-"
	}
	return screen.Escape(hex[:12])
}

func users(i appcontrol.Image) screen.Cell {
	switch {
	case len(i.UsedBy) > 0:
		return screen.Cell{Text: screen.Escape(strings.Join(i.UsedBy, ", "))}
	case i.Needed:
		return screen.Cell{Text: "(an app that is down)"}
	}
	return screen.Cell{Text: "-", Colour: screen.Dim}
}

func pull(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	name, err := one(flags, args, "the name of a container image", "osctl pull nginx:1.27")
	if err != nil {
		return err
	}
	j, err := appcommand.Client(s).Begin(ctx, appcontrol.OpPull, appcontrol.Work{Image: name})
	if err != nil {
		return appcommand.Unreachable(err)
	}
	end, err := follow(ctx, s, j, "pulling "+screen.Escape(name))
	if err != nil {
		return err
	}
	return there(ctx, s, end, *asJSON, "is there")
}

// follow shows how far a job is until it has ended.
func follow(ctx context.Context, s *cli.Session, j appcontrol.Job, what string) (appcontrol.Progress, error) {
	told := ""
	for {
		p, err := appcommand.Client(s).Progress(ctx, j)
		if s.Progress && (err != nil || p.Ended) {
			fmt.Fprint(s.Stderr, "\r\x1b[K")
		}
		if err != nil || p.Ended {
			return p, appcommand.Unreachable(err)
		}
		text := what + progress(p)
		switch {
		case s.Progress:
			fmt.Fprintf(s.Stderr, "\r%s\x1b[K", s.Fit(text))
		case text != told: // a log or a pipe gets a line for each change
			fmt.Fprintln(s.Stderr, text)
		}
		told = text
	}
}

// progress is how far a job is, as the end of a line.
func progress(p appcontrol.Progress) string {
	text := ""
	switch {
	case p.Fault != "":
		text = ": " + screen.InLine(p.Fault) + ", trying again"
	case p.Waiting:
		text = ": waiting for other pulls"
	}
	if p.Size > 0 {
		text += fmt.Sprintf(" %s of %s (%d%%)", screen.Size(p.Done), screen.Size(p.Size), p.Done*100/p.Size)
	}
	return text
}

// there shows images that have come.
func there(ctx context.Context, s *cli.Session, p appcontrol.Progress, asJSON bool, how string) error {
	if !asJSON {
		for _, name := range p.Images {
			fmt.Fprintln(s.Stdout, screen.Escape(name), how)
		}
		return nil
	}
	images, err := appcommand.Client(s).Images(ctx)
	if err != nil {
		return appcommand.Unreachable(err)
	}
	out := []appcontrol.Image{}
	for _, i := range images {
		for _, name := range p.Images {
			if i.Name == name && !i.Partial {
				out = append(out, i)
			}
		}
	}
	return s.PrintJSON(out)
}

func one(flags *flag.FlagSet, args []string, what, example string) (string, error) {
	names, err := cli.Parse(flags, args)
	if err == nil && len(names) != 1 {
		err = cli.Misuse(flags.Name()+" needs "+what, "try: "+example)
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

func prune(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	return removal(ctx, s, appcontrol.OpPrune, appcontrol.Remove{Dry: *dry}, *asJSON)
}

func remove(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	asJSON := flags.Bool("json", false, "prints JSON")
	name, err := one(flags, args, "the name of a container image", "osctl images")
	if err != nil {
		return err
	}
	return removal(ctx, s, appcontrol.OpRemoveImage, appcontrol.Remove{Image: name, Dry: *dry}, *asJSON)
}

func removal(ctx context.Context, s *cli.Session, op string, r appcontrol.Remove, asJSON bool) error {
	gone, err := appcommand.Client(s).Remove(ctx, op, r)
	if err != nil {
		return appcommand.Unreachable(err)
	}
	if asJSON {
		return s.PrintJSON(gone)
	}
	var sum int64
	for _, g := range gone {
		what := "removed"
		if r.Dry {
			what = "remove"
		}
		if g.Partial {
			what += " what was fetched of"
		}
		fmt.Fprintf(s.Stdout, "%s %s (%s)\n", what, screen.Escape(g.Image), screen.Size(g.Size))
		sum += g.Size
	}
	if len(gone) == 0 {
		return say(s, "nothing to remove: all container images are needed")
	}
	return say(s, "%s in all; layers that other container images have too stay", screen.Size(sum))
}

func say(s *cli.Session, format string, args ...any) error {
	_, err := fmt.Fprintf(s.Stderr, format+"\n", args...)
	return err
}
