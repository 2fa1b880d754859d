package top

import (
	"strings"
	"testing"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/screen"
	"resinos/mounts/testenv"
)

func TestGolden(t *testing.T) {
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"top": Show})}
	place.Golden(t, "top", "top --count 1", "top --json", "top --count -1", "top x")
	place.Screen = screen.Screen{Columns: 40}
	place.Golden(t, "narrow", "top --count 1")
}

func TestLoads(t *testing.T) {
	group := func(name string, cpu, read int64) gauge.Group {
		return gauge.Group{Name: name, Container: strings.Contains(name, "."),
			Usage: gauge.Usage{Memory: 1 << 20, CPU: time.Duration(cpu) * time.Millisecond, Tasks: 1, Read: read,
				Written: -1}}
	}
	before := glance{time.Second, []gauge.Group{group("calm", 5000, 0), group("busy", 1000, 0),
		group("app.web", 0, 100), group("anew", 9000, 9000)}}
	after := glance{3 * time.Second, []gauge.Group{group("calm", 5010, 0), group("busy", 2900, 4<<20),
		group("app.web", 1000, 2100), group("anew", 10, 10), group("fresh", 5, 5)}}
	testenv.Golden(t, "top_load.golden", (&session{&cli.Session{}}).topTable(loadsOf(before, after), "",
		"")+onScreen("a\nb\nc\nd\n", 3))
	after.groups[1].Swap = 3 << 20
	testenv.Golden(t, "top_swap.golden", (&session{&cli.Session{}}).topTable(loadsOf(before, after),
		"MemTotal: 497000 kB\nMemAvailable: 301000 kB\nSwapTotal: 248496 kB\nSwapFree: 200000 kB\n", "0.1 0.2 0.3"))
}
