package osctl

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"resinos/init/boot"
)

// barWidth is the width of the picture in the time line; without results the whole fits 80 columns.
const barWidth = 24

func bootLine(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &usage{fmt.Sprintf("boot takes no argument %q", rest[0]), "try: osctl boot"}
	}
	var report boot.Report
	if err := s.call(ctx, "boot", nil, &report); err != nil {
		return err
	}
	if *asJSON {
		return s.printJSON(report)
	}
	_, err = io.WriteString(s.Stdout, s.timeLine(report))
	return err
}

func planned(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "print JSON")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &usage{fmt.Sprintf("plan takes no argument %q", rest[0]), "try: osctl plan"}
	}
	var plan []boot.PlannedStep
	if err := s.call(ctx, "plan", nil, &plan); err != nil {
		return err
	}
	if *asJSON {
		return s.printJSON(plan)
	}
	_, err = io.WriteString(s.Stdout, boot.Print(plan))
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
	slices.SortStableFunc(list, func(a, b moment) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Name, b.Name))
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
	return s.table(rows) + "times are since the kernel started" + where(r) + "\n"
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
