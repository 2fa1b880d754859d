package osctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"resinos/init/boot"
)

// barWidth is the width of the picture in the time line; without results the whole fits 80 columns.
const barWidth = 24

// booted is the boot operation's answer: the report, and how the life before this boot ended, where that is known.
type booted struct {
	boot.Report
	Last *ending `json:"last,omitempty"`
}

// ending is how a boot ended: clean, panic, watchdog, power loss, ...
type ending struct {
	How    string  `json:"how"`
	Why    string  `json:"why,omitempty"`
	BootID string  `json:"boot_id,omitempty"`
	Uptime float64 `json:"uptime,omitempty"` // seconds that it lasted
}

func bootLine(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	last := flags.Bool("last", false, "how the boot before this one ended")
	asJSON := flags.Bool("json", false, "print JSON")
	if err := bare(flags, args); err != nil {
		return err
	}
	var report booted
	if err := s.call(ctx, "boot", nil, &report); err != nil {
		return err
	}
	switch {
	case *last && report.Last == nil:
		return &failure{errors.New("nothing is known of the boot before this one"), "try: osctl boot"}
	case *last && *asJSON:
		return s.printJSON(report.Last)
	case *last:
		_, err := io.WriteString(s.Stdout, s.lastText(*report.Last))
		return err
	case *asJSON:
		return s.printJSON(report)
	}
	_, err := io.WriteString(s.Stdout, s.timeLine(report.Report))
	return err
}

func (s *session) lastText(last ending) string {
	c := yellow
	if last.How == "clean" {
		c = green
	}
	rows := [][]cell{pair("ended", last.How, c)}
	if last.Why != "" {
		rows = append(rows, pair("because", last.Why, plain))
	}
	if last.Uptime > 0 {
		rows = append(rows, pair("after", ago(time.Duration(last.Uptime*float64(time.Second))), plain))
	}
	if last.BootID != "" {
		rows = append(rows, pair("boot id", last.BootID, dim))
	}
	return s.table(rows)
}

func planned(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	if err := bare(flags, args); err != nil {
		return err
	}
	var plan []boot.PlannedStep
	if err := s.call(ctx, "plan", nil, &plan); err != nil {
		return err
	}
	if *asJSON {
		return s.printJSON(plan)
	}
	_, err := io.WriteString(s.Stdout, boot.Print(plan))
	return err
}

// moment is one line of the time line: a step, or a milestone, which takes no time.
type moment struct {
	boot.Step
	milestone bool
}

// moments are the steps and milestones in the order of their beginning.
func moments(r boot.Report) []moment {
	var list []moment
	for name, at := range r.Milestones {
		list = append(list, moment{Step: boot.Step{Name: name, Start: at}, milestone: true})
	}
	for _, step := range r.Steps {
		list = append(list, moment{Step: step})
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		return a.Start < b.Start || a.Start == b.Start && a.Name < b.Name
	})
	return list
}

func (s *session) timeLine(r boot.Report) string {
	list := moments(r)
	end := 0.0
	for _, m := range list {
		end = max(end, m.Start+m.Duration)
	}
	rows := [][]cell{header(">START", ">TOOK", "STAGE", "STEP", "", "RESULT")}
	for _, m := range list {
		if m.milestone {
			rows = append(rows, []cell{
				{text: seconds(m.Start), right: true, colour: bold}, {}, {text: "milestone", colour: bold},
				{text: escape(m.Name), colour: bold}, {text: bar(m.Start, 0, end, '|'), colour: bold},
			})
			continue
		}
		result := escape(m.Result)
		if m.Error != "" {
			result += ": " + escape(m.Error)
		}
		rows = append(rows, []cell{
			{text: seconds(m.Start), right: true}, {text: span(m.Duration), right: true}, {text: escape(m.Stage), colour: dim},
			{text: escape(m.Name)}, {text: bar(m.Start, m.Duration, end, '#'), colour: dim}, {text: result, colour: resultColour(m.Result)},
		})
	}
	return s.table(rows) + s.fit("times are since the kernel started"+where(r)) + "\n"
}

func where(r boot.Report) string {
	if r.Slot == "" {
		return ""
	}
	return "; slot " + escape(r.Slot) + " of " + escape(r.Disk)
}

func resultColour(result string) colour {
	switch result {
	case boot.ResultOK:
		return green
	case boot.ResultIgnored:
		return dim
	case boot.ResultDegraded:
		return yellow
	}
	return red
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

func seconds(at float64) string { return fmt.Sprintf("%.3fs", at) }

func span(took float64) string {
	if took < 0.9995 {
		return fmt.Sprintf("%.0fms", took*1000)
	}
	return seconds(took)
}
