// Package timeline owns the commands of osctl about a boot: boot, its time line and how the boot before it ended;
// blame, how long each service took; chain, what the boot had to wait for; plan, the steps without carrying them out.
// It only asks PID 1 and measures nothing itself. Read Boot first.
package timeline

import (
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/bootreport"
	"resinos/services/pid1"
)

// barWidth is the width of the picture in the time line; without results the whole fits 80 columns.
const barWidth = 24

// booted is the boot operation's answer: the report, and how the life before this boot ended, where that is known.
type booted struct {
	bootreport.Report
	Last     *bootreport.Last `json:"last,omitempty"`
	Services []blamed         `json:"services,omitempty"` // those that the boot started
}

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// Boot runs the command boot.
func Boot(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	last := flags.Bool("last", false, "shows how the previous boot ended")
	asJSON := flags.Bool("json", false, "prints JSON")
	svg := flags.Bool("svg", false, "draws the boot up to the first container, for a browser")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	if *svg && (*last || *asJSON) {
		return cli.Misuse("boot --svg takes no other flag", "try: osctl boot --svg > boot.svg")
	}
	if *svg {
		return s.Draw("boot")
	}
	report, err := s.report(ctx)
	if err != nil {
		return err
	}
	switch {
	case *last && report.Last == nil:
		return cli.Advise(errors.New("no report of the previous boot"), "try: osctl boot")
	case *last && *asJSON:
		return s.PrintJSON(report.Last)
	case *last:
		_, err := io.WriteString(s.Stdout, s.lastText(*report.Last))
		return err
	}
	if *asJSON {
		return s.PrintJSON(report)
	}
	_, err = io.WriteString(s.Stdout, s.timeLine(report))
	return err
}

// report is what PID 1 knows of the boot.
func (s *session) report(ctx context.Context) (booted, error) {
	known, err := s.Client().Boot(ctx)
	if err != nil {
		return booted{}, cli.Silent(err)
	}
	report := booted{Report: known, Last: known.Last}
	if list, err := s.Services(ctx); err == nil { // the report is worth showing without them too
		report.Services = startedBy(report.Report, list, s.Now().Seconds())
	}
	return report, nil
}

// startedBy lists the services that the boot started, in the order in which it did: not those that start on demand, nor
// those that were first started after its last milestone.
func startedBy(r bootreport.Report, list []pid1.ServiceStatus, now float64) []blamed {
	end := 0.0
	for _, m := range moments(r, nil) {
		end = max(end, m.Start+m.Duration)
	}
	list = slices.DeleteFunc(slices.Clone(list), func(st pid1.ServiceStatus) bool {
		return len(st.Demand) > 0 && !st.AtBoot ||
			st.Began > end
	})
	all := blameOf(list, now)
	sort.SliceStable(all, func(i, j int) bool { return all[i].Began < all[j].Began })
	return all
}

func (s *session) lastText(last bootreport.Last) string {
	c := screen.Yellow
	if last.How == "clean" {
		c = screen.Green
	}
	rows := [][]screen.Cell{screen.Pair("ended", last.How, c)}
	if last.Why != "" {
		label := "because"
		for line := range strings.Lines(strings.TrimSpace(last.Why)) { // a panic has several
			rows = append(rows, screen.Pair(label, strings.TrimRight(line, "\r\n"), screen.Plain))
			label = ""
		}
	}
	if last.Uptime > 0 {
		rows = append(rows, screen.Pair("after", screen.Ago(time.Duration(last.Uptime*float64(time.Second))),
			screen.Plain))
	}
	if last.BootID != "" {
		rows = append(rows, screen.Pair("boot id", last.BootID, screen.Dim))
	}
	if last.Later != "" {
		later, _, _ := strings.Cut(last.Later, "\n")
		rows = append(rows, screen.Pair("then", "a boot that left no record ended with "+later, screen.Yellow))
	}
	return s.Table(rows)
}

// Plan runs the command plan.
func Plan(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	plan, err := s.Client().Plan(ctx)
	if err != nil {
		return cli.Silent(err)
	}
	if *asJSON {
		return s.PrintJSON(plan)
	}
	_, err = io.WriteString(s.Stdout, bootreport.Print(plan))
	return err
}

// The kinds of moments.
const (
	aStep = iota
	aMilestone
	aService
)

// moment is one line of the time line: a step, a service from its start until it is up, or a milestone, which takes no
// time.
type moment struct {
	bootreport.Step
	kind int
}

// moments are the steps, services and milestones in the order of their beginning.
func moments(r bootreport.Report, services []blamed) []moment {
	var list []moment
	for name, at := range r.Milestones {
		list = append(list, moment{Step: bootreport.Step{Name: name, Start: at, Stage: "milestone"}, kind: aMilestone})
	}
	for _, step := range r.Steps {
		list = append(list, moment{Step: step})
	}
	for _, b := range services {
		m := moment{Step: bootreport.Step{Name: b.Name, Start: b.Began, Duration: b.Took, Stage: "service",
			Result: "up"}, kind: aService}
		if !b.Ready {
			m.Duration, m.Result = 0, "not up yet"
		}
		list = append(list, m)
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		return a.Start < b.Start || a.Start == b.Start && a.Name < b.Name
	})
	return list
}

func (s *session) timeLine(r booted) string {
	list := moments(r.Report, r.Services)
	end := 0.0
	for _, m := range list {
		end = max(end, m.Start+m.Duration)
	}
	rows := [][]screen.Cell{screen.Header(">START", ">TOOK", "STAGE", "STEP", "", "RESULT")}
	for _, m := range list {
		rows = append(rows, m.row(end))
	}
	return s.Table(rows) + s.Fit("times count from the start of the kernel"+where(r.Report)) + "\n"
}

// row draws a moment into a line that is end seconds long.
func (m *moment) row(end float64) []screen.Cell {
	if m.kind == aMilestone {
		return []screen.Cell{
			{Text: screen.Seconds(m.Start), Right: true, Colour: screen.Bold}, {}, {Text: m.Stage, Colour: screen.Bold},
			{Text: screen.Escape(m.Name), Colour: screen.Bold}, {Text: bar(m.Start, 0, end, '|'), Colour: screen.Bold},
		}
	}
	mark := byte('#')
	if m.kind == aService {
		mark = '='
	}
	result := screen.Escape(m.Result)
	if m.Error != "" {
		result += ": " + screen.InLine(m.Error)
	}
	return []screen.Cell{
		{Text: screen.Seconds(m.Start), Right: true}, {Text: screen.Span(m.Duration), Right: true},
		{Text: screen.Escape(m.Stage), Colour: screen.Dim}, {Text: screen.Escape(m.Name)},
		{Text: bar(m.Start, m.Duration, end, mark), Colour: screen.Dim}, {Text: result, Colour: resultColour(m.Result)},
	}
}

func where(r bootreport.Report) string {
	if r.Slot == "" {
		return ""
	}
	return "; slot " + screen.Escape(r.Slot) + " of " + screen.Escape(r.Disk)
}

func resultColour(result string) screen.Colour {
	switch result {
	case bootreport.ResultOK, "up":
		return screen.Green
	case bootreport.ResultIgnored:
		return screen.Dim
	case bootreport.ResultDegraded, "not up yet":
		return screen.Yellow
	}
	return screen.Red
}

// bar draws a span of a line that is end seconds long. It is ASCII: a serial console may know no more.
func bar(start, took, end float64, mark byte) string {
	if end <= 0 || start < 0 || took < 0 {
		return ""
	}
	from := min(int(start/end*barWidth), barWidth-1)
	to := min(max(int((start+took)/end*barWidth), from+1), barWidth)
	return strings.Repeat(" ", from) + strings.Repeat(string(mark), to-from)
}
