// Package top owns the command top of osctl: what services and containers use of processor, memory and disk, again and
// again. It only compares two readings of the cgroups (osctl/gauge), and keeps nothing between them. Read Show first.
package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/gauge"
	"resinos/init/osctl/screen"
	"resinos/services/cgroup"
)

// The pauses between two looks: of the screen, and before the first numbers, which need two looks.
const (
	topPause  = 2 * time.Second
	topGlance = 500 * time.Millisecond
	keyPause  = 100 * time.Millisecond // how long a signal may wait
)

// load is what one group used between two looks.
type load struct {
	gauge.Group
	CPUPercent float64 `json:"cpu_percent"` // of one processor; -1 when not known
	ReadRate   int64   `json:"read_rate"`   // bytes a second
	WriteRate  int64   `json:"write_rate"`
}

// glance is what is there at one moment.
type glance struct {
	at     time.Duration
	groups []gauge.Group
}

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Show runs the command top.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	times := flags.Int("count", 0,
		"ends after `COUNT` tables (0: on a terminal when q is pressed, otherwise after one)")
	asJSON := flags.Bool("json", false, "prints JSON, once")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	if *times < 0 {
		return cli.Misuse("the number of tables is negative", "try: osctl top --count 1")
	}
	before, err := s.glance()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	live := s.Terminal && *times == 0 && !*asJSON
	t := &topper{session: s, screen: live, before: before, left: *times}
	if live && screen.IsTerminal(os.Stdin) {
		restore, err := screen.Keys(os.Stdin)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		defer restore()
		t.keys = os.Stdin
	}
	if t.left == 0 && !live {
		t.left = 1
	}
	return t.run(ctx, *asJSON)
}

// glance reads all groups.
func (s *session) glance() (glance, error) {
	groups, err := gauge.Groups(filepath.Join(s.Root, cgroup.Root))
	if err != nil {
		return glance{}, cli.Advise(err, "top reads the cgroups of a resinOS device; try: osctl status")
	}
	return glance{s.Now(), groups}, nil
}

type topper struct {
	*session
	screen bool
	keys   *os.File // nil: none are read
	before glance
	left   int // tables to print; 0 is without end
}

func (t *topper) run(ctx context.Context, asJSON bool) error {
	for pause := topGlance; ; pause = topPause {
		if t.pause(ctx, pause) {
			return nil
		}
		after, err := t.glance()
		if err != nil {
			return err
		}
		loads := loadsOf(t.before, after)
		t.before = after
		if asJSON {
			return t.PrintJSON(loads)
		}
		text := t.topTable(loads, t.Read("proc/meminfo"), t.Read("proc/loadavg"))
		if t.screen {
			text = onScreen(text, t.Rows)
		}
		if _, err := io.WriteString(t.Stdout, text); err != nil {
			return err
		}
		if t.left--; t.left == 0 {
			return nil
		}
		if !t.screen {
			fmt.Fprintln(t.Stdout)
		}
	}
}

// pause waits. It reports whether that was cut short by q, Ctrl-C, Ctrl-D, Escape or a signal.
func (t *topper) pause(ctx context.Context, d time.Duration) (over bool) {
	if t.keys == nil {
		select {
		case <-ctx.Done():
			return true
		case <-time.After(d):
			return false
		}
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		if ctx.Err() != nil {
			return true
		}
		fds := []unix.PollFd{{Fd: int32(t.keys.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(keyPause.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return true
		}
		if n <= 0 {
			continue
		}
		var key [16]byte
		if n, err := t.keys.Read(key[:]); err != nil || n == 0 ||
			strings.ContainsAny(string(key[:n]), "qQ\x03\x04\x1b") {
			return true
		}
	}
	return false
}

// onScreen paints text over the screen without a flicker, and leaves out what is below its lower edge.
func onScreen(text string, rows int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if rows > 0 && len(lines) > rows-1 {
		lines = lines[:max(rows-1, 1)]
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\n\x1b[J"
}

// shortest is the span between two looks that rates are computed with when the clock does not show one, in seconds.
const shortest = 1e-6

// loadsOf compares two looks; the busiest group comes first, services before containers.
func loadsOf(before, after glance) []load {
	type key struct {
		name      string
		container bool
	}
	old := map[key]gauge.Group{}
	for _, g := range before.groups {
		old[key{g.Name, g.Container}] = g
	}
	elapsed := max((after.at - before.at).Seconds(), shortest)
	loads := []load{}
	for _, g := range after.groups {
		l := load{Group: g, CPUPercent: -1, ReadRate: -1, WriteRate: -1}
		if o, known := old[key{g.Name, g.Container}]; known {
			if g.CPU >= 0 && o.CPU >= 0 {
				l.CPUPercent = max(0, (g.CPU-o.CPU).Seconds()/elapsed*100) // less than before: it was created again
			}
			l.ReadRate, l.WriteRate = rate(o.Read, g.Read, elapsed), rate(o.Written, g.Written, elapsed)
		}
		loads = append(loads, l)
	}
	sort.SliceStable(loads, func(i, j int) bool {
		a, b := &loads[i], &loads[j]
		switch {
		case a.Container != b.Container:
			return b.Container
		case a.CPUPercent != b.CPUPercent:
			return a.CPUPercent > b.CPUPercent
		}
		return a.Memory > b.Memory
	})
	return loads
}

func rate(before, after int64, elapsed float64) int64 {
	if before < 0 || after < 0 {
		return -1
	}
	return int64(float64(max(0, after-before)) / elapsed)
}

func (s *session) topTable(loads []load, meminfo, loadavg string) string {
	memory := kilobytes(meminfo)
	swaps := memory["SwapTotal"] > 0
	names := []string{"NAME", ">CPU", ">MEMORY", ">SWAP", ">TASKS", ">READ/s", ">WRITE/s"}
	rows := [][]screen.Cell{without(!swaps, swapColumn, screen.Header(names...))}
	container := false
	for _, l := range loads {
		if l.Container && !container {
			container = true
			rows = append(rows, []screen.Cell{{Text: "containers", Colour: screen.Dim, Wide: true}})
		}
		rows = append(rows, without(!swaps, swapColumn, topRow(l)))
	}
	return s.Fit(memoryLine(memory, loadavg)) + "\n" + s.Table(rows)
}

// swapColumn is the one that a device without swap has no use for.
const swapColumn = 3

// without takes a column out of a row.
func without(unwanted bool, column int, row []screen.Cell) []screen.Cell {
	if unwanted {
		return slices.Delete(row, column, column+1)
	}
	return row
}

func topRow(l load) []screen.Cell {
	cpu, busy := "-", screen.Plain
	if l.CPUPercent >= 0 {
		cpu = fmt.Sprintf("%.1f%%", l.CPUPercent)
	}
	switch {
	case l.CPUPercent >= 80:
		busy = screen.Red
	case l.CPUPercent >= 20:
		busy = screen.Yellow
	}
	tasks := "-"
	if l.Tasks >= 0 {
		tasks = strconv.FormatInt(l.Tasks, 10)
	}
	return []screen.Cell{
		{Text: screen.Escape(l.Name)}, {Text: cpu, Right: true, Colour: busy},
		{Text: screen.Size(l.Memory), Right: true}, {Text: screen.Size(l.Swap), Right: true},
		{Text: tasks, Right: true},
		{Text: screen.Size(l.ReadRate), Right: true}, {Text: screen.Size(l.WriteRate), Right: true},
	}
}

// kilobytes are the lines of /proc/meminfo.
func kilobytes(meminfo string) map[string]int64 {
	found := map[string]int64{}
	for line := range strings.Lines(meminfo) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				found[name] = n
			}
		}
	}
	return found
}

// memoryLine says how much memory and swap is left, from /proc/meminfo and /proc/loadavg.
func memoryLine(memory map[string]int64, loadavg string) string {
	var words []string
	if total := memory["MemTotal"]; total > 0 {
		free := memory["MemAvailable"]
		words = append(words, fmt.Sprintf("memory: %s free of %s", screen.Size(free<<10), screen.Size(total<<10)))
	}
	if total := memory["SwapTotal"]; total > 0 {
		free := memory["SwapFree"]
		words = append(words, fmt.Sprintf("swap: %s free of %s", screen.Size(free<<10), screen.Size(total<<10)))
	}
	if fields := strings.Fields(loadavg); len(fields) >= 3 {
		words = append(words, "load: "+screen.Escape(strings.Join(fields[:3], " ")))
	}
	if len(words) == 0 {
		return "memory: unknown"
	}
	return strings.Join(words, "   ")
}
