package osctl

import (
	"slices"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
)

func TestHelp(t *testing.T) {
	clitest.Place{Main: run}.Golden(t, "help", "help", "help logs", "help kill", "help boot", "status -h",
		"help nothing",
		"", "stat", "restrat", "quux", "logs -x", "logs hello", "logs -p loud", "logs --lines many", "logs -n 5",
		"logs -b 7",
		"logs --since soon", "logs -o xml", "--help")
}

// TestDryRunIsEverywhereTheSame: -n prints what a command would do, in every command that has it.
func TestDryRunIsEverywhereTheSame(t *testing.T) {
	found := 0
	for _, c := range commands() {
		if c.run == nil {
			continue
		}
		flags := cli.Flags(c.name)
		_ = c.run(t.Context(), &cli.Session{}, flags, []string{"-h"}) // it only defines the flags
		if f := flags.Lookup("n"); f != nil {
			found++
			if f.Usage != "prints what it would do, and does nothing" || f.DefValue != "false" {
				t.Errorf("osctl %s -n: %s", c.name, f.Usage)
			}
		}
		changes := c.theme == changing || c.theme == powering ||
			slices.Contains([]string{"config", "net", "mask", "unmask", "rescan", "up", "down", "prune", "rmi"}, c.name)
		if changes != (flags.Lookup("n") != nil) {
			t.Errorf("osctl %s: it changes something is %t, it has -n is %t", c.name, changes, !changes)
		}
	}
	if found == 0 {
		t.Error("no command has -n")
	}
}
