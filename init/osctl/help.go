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

func find(name string) (command, bool) {
	for _, c := range commands() {
		if c.name == name {
			return c, true
		}
	}
	return command{}, false
}

func help(s *cli.Session, args []string) error {
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
