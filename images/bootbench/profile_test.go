package bootbench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"resinos/bsp/boards"
	"resinos/images/qemu"
	"resinos/mounts/testenv"
)

const (
	sampleEvery  = 4 * time.Millisecond // of the host's time; the guest's clock stands while a sample is taken
	codeBytes    = 16                   // by which the program of a sample is recognised
	profileLines = 60                   // functions in the report
	lastPhase    = markOutput
)

// phases are the columns of the report, the time until each mark; the peer's script has no services.
var (
	phases     = []string{markRoot, markServices, markEngine, lastPhase}
	peerPhases = []string{markRoot, markEngine, lastPhase}
)

// A place is where the processor was when a sample was taken.
type place struct {
	phase   int // index in the machine's phases
	address uint64
	code    string // what it executes there, codeBytes of it, or less at the end of a page
	idle    bool
}

// TestBootProfile boots one machine (RESINOS_ONLY; a regular boot of ours if not given), looks every few milliseconds
// at what its processor executes, and prints the share of each program and function until each mark; make profile runs
// it. The shares are of the time that an emulated processor takes, translation of code included: see docs/bench.md.
func TestBootProfile(t *testing.T) {
	if os.Getenv(benchVariable) == "" {
		t.Skip("set " + benchVariable + "=1")
	}
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img", "mke2fs", "debugfs")
	if os.Getenv(onlyVariable) == "" {
		t.Setenv(onlyVariable, "^"+regularName+"$")
	}
	machines, _, err := prepare(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(machines) == 0 {
		t.Fatalf("no machine is called %q", os.Getenv(onlyVariable))
	}
	m := machines[0]
	board, err := boards.Load(boardName)
	if err != nil {
		t.Fatal(err)
	}
	dir, marks := filepath.Join(top, "bin", board.Arch), phases
	if !m.ours {
		dir, marks = filepath.Join(top, "build", "bench", "peer", "packages"), peerPhases
	}
	programs, err := openPrograms(dir)
	if err != nil {
		t.Fatal(err)
	}
	places, kernel, err := profile(t.Context(), m, marks)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%s: %d samples\n%s", m.name, len(places), newProfile(marks, places, programs, kernel))
}

// profile boots once and returns the samples up to the container's output, and the symbols of the kernel. The peer has
// no shell, so the symbols of its kernel are missing.
func profile(ctx context.Context, m machine, marks []string) ([]place, symbols, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("not done after %v", bootTimeout))
	defer cancel()
	o := m.options
	o.Snapshot = o.Image != ""
	guest, err := qemu.Start(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	defer guest.Kill()
	w := &watcher{lines: make(chan string, 10000)}
	defer guest.Console().Copy(w)()
	places, err := takeSamples(ctx, guest, w.lines, marks)
	if err != nil || !m.ours {
		return places, nil, err
	}
	kernel, err := askSymbols(ctx, guest)
	return places, kernel, err
}

// takeSamples looks at the processor from the first line of the console on, which is the kernel's.
func takeSamples(ctx context.Context, guest *qemu.Guest, lines <-chan string,
	marks []string) (places []place, err error) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	phase, started := 0, false
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-guest.Done():
			return nil, errors.New("the guest ended before its container spoke")
		case line := <-lines:
			started = started || kernelLine.MatchString(line) || strings.HasPrefix(line, "[")
			mark, _, found := parseMark(line)
			if found && mark == lastPhase {
				return places, nil
			}
			if i := slices.Index(marks, mark); found && i >= 0 {
				phase = max(phase, i+1)
			}
			continue
		case <-tick.C:
		}
		if !started {
			continue
		}
		p, err := look(ctx, guest.QMP())
		if err != nil {
			return nil, err
		}
		p.phase = phase
		places = append(places, p)
	}
}

var (
	registerLine = regexp.MustCompile(`\b[RE]IP=([0-9a-f]+)`)
	haltedLine   = regexp.MustCompile(`\bHLT=1`)
	byteWord     = regexp.MustCompile(`\b0x([0-9a-f]{2})\b`)
)

// look stops the guest, reads what it executes, and lets it go on.
func look(ctx context.Context, m *qemu.Monitor) (p place, err error) {
	if err := m.Do(ctx, "stop", nil, nil); err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, m.Do(ctx, "cont", nil, nil)) }()
	ask := func(words string) (text string, err error) {
		err = m.Do(ctx, "human-monitor-command", map[string]any{"command-line": words}, &text)
		return text, err
	}
	text, err := ask("info registers")
	if err != nil {
		return p, err
	}
	got := registerLine.FindStringSubmatch(text)
	if got == nil {
		return p, fmt.Errorf("no RIP in %q", text)
	}
	if p.address, err = strconv.ParseUint(got[1], 16, 64); err != nil {
		return p, err
	}
	p.idle = haltedLine.MatchString(text)
	n := min(codeBytes, 4096-p.address%4096) // the next page may not be there
	if text, err = ask(fmt.Sprintf("x /%dxb %#x", n, p.address)); err != nil {
		return p, err
	}
	for _, word := range byteWord.FindAllStringSubmatch(text, -1) {
		b, _ := strconv.ParseUint(word[1], 16, 8) // two digits
		p.code += string([]byte{byte(b)})
	}
	return p, nil
}

// askSymbols has the shell at the console print the functions of the kernel, and returns them.
func askSymbols(ctx context.Context, guest *qemu.Guest) (symbols, error) {
	w := &watcher{lines: make(chan string, 1_000_000)}
	defer guest.Console().Copy(w)()
	const done = "all symbols"
	if err := guest.Console().Send(
		"\necho 0 >/proc/sys/kernel/kptr_restrict; grep -i ' t ' /proc/kallsyms; echo all ''symbols\n"); err != nil {
		return nil, err
	}
	var out symbols
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case line := <-w.lines:
			if line == done {
				slices.SortFunc(out, func(a, b symbol) int { return cmp.Compare(a.address, b.address) })
				return out, nil
			}
			if s, ok := parseSymbol(line); ok {
				out = append(out, s)
			}
		}
	}
}

// newProfile names the samples.
func newProfile(marks []string, places []place, programs []*program, kernel symbols) shares {
	s := shares{marks: marks, all: make(counts, len(marks)), programs: map[string]counts{},
		functions: map[string]counts{}}
	for _, p := range places {
		name, function := "another", ""
		switch {
		case p.idle:
			name = "(idle)"
		case p.address >= kernelHalf:
			name, function = "kernel", kernel.find(p.address)
		default:
			for _, q := range programs {
				if q.has(p.address, p.code) {
					name, function = q.name, q.function(p.address)
					break
				}
			}
		}
		s.add(s.programs, name, p.phase)
		if function != "" {
			s.add(s.functions, name+" "+function, p.phase)
		}
		s.all[p.phase]++
	}
	return s
}

// counts are samples by phase.
type counts []int

func (c counts) sum() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// shares are samples by program and by function.
type shares struct {
	marks               []string // at which its phases end
	all                 counts
	programs, functions map[string]counts
}

func (s *shares) add(to map[string]counts, name string, phase int) {
	if to[name] == nil {
		to[name] = make(counts, len(s.marks))
	}
	to[name][phase]++
}

// String returns a table for programs and one for functions, in per cent of all samples.
func (s shares) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 8, 2, ' ', tabwriter.AlignRight)
	percent := func(n int) string { return fmt.Sprintf("%.1f", 100*float64(n)/float64(max(1, s.all.sum()))) }
	rows := func(of map[string]counts, limit int) {
		names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
			return cmp.Or(cmp.Compare(of[b].sum(), of[a].sum()), cmp.Compare(a, b))
		})
		for _, name := range names[:min(limit, len(names))] {
			fmt.Fprintf(table, "%s\t", percent(of[name].sum()))
			for _, n := range of[name] {
				fmt.Fprintf(table, "%s\t", percent(n))
			}
			fmt.Fprintf(table, "  %s\n", name)
		}
	}
	fmt.Fprintf(table, "%% of all\tuntil %s\t  program\n", strings.Join(s.marks, "\tuntil "))
	rows(s.programs, len(s.programs))
	fmt.Fprintf(table, "%% of all\tuntil %s\t  function\n", strings.Join(s.marks, "\tuntil "))
	rows(s.functions, profileLines)
	table.Flush() // a Builder takes everything
	return b.String()
}
