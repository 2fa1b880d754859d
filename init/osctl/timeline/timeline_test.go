package timeline

import (
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/screen"
)

// TestGolden: what the commands print, on terminals of all kinds.
func TestGolden(t *testing.T) {
	table := map[string]cli.Run{"boot": Boot, "blame": Blame, "chain": Chain, "plan": Plan}
	place := clitest.Place{Main: clitest.Commands(table), Control: clitest.PID1(t)}
	on := func(s screen.Screen) clitest.Place { place.Screen = s; return place }
	place.Golden(t, "boot", "boot", "boot --json", "boot --last", "boot --last --json", "boot now")
	place.Golden(t, "plan", "plan", "plan -json", "plan now")
	place.Golden(t, "blame", "blame", "blame --json")
	place.Golden(t, "chain", "chain", "chain --json")
	on(screen.Screen{Colour: true}).Golden(t, "boot_colour", "boot")
	on(screen.Screen{Columns: 40}).Golden(t, "narrow", "blame", "chain", "boot")
	on(screen.Screen{Columns: 100, Fancy: true}).Golden(t, "wide", "blame", "chain")
}
