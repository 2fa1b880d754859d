package timeline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/bootreport"
	"resinos/services/pid1"
)

// A link is one thing that the boot waited for. Times are seconds since the kernel started.
type link struct {
	Kind string  `json:"kind"` // kernel, step, service or milestone
	Name string  `json:"name"`
	At   float64 `json:"at"`
	Took float64 `json:"took"`
	Wait float64 `json:"wait"` // between the end of the link before and At
}

// Chain runs the command chain.
func Chain(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	report, err := s.Client().Boot(ctx)
	if err != nil {
		return cli.Silent(err)
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	links := chainOf(report, list)
	if len(links) == 0 {
		return cli.Advise(errors.New("no milestone has been passed yet"), "try: osctl boot")
	}
	if *asJSON {
		return s.PrintJSON(links)
	}
	_, err = io.WriteString(s.Stdout, s.chainText(links))
	return err
}

// causes say which service leads to a milestone.
func causes() map[string]string {
	return map[string]string{
		bootreport.MilestoneEngine: "containerd", bootreport.MilestoneLease: "netd",
		bootreport.MilestoneContainerOutput: "containerd",
	}
}

// chainOf follows what led to the last milestone back to the kernel: from a service to the last to be ready of those
// that it waited for, from the first service to the steps before it. Each link ends before the next begins.
func chainOf(report bootreport.Report, list []pid1.ServiceStatus) []link {
	name, at := lastMilestone(report)
	if name == "" {
		return nil
	}
	back := []link{{Kind: "milestone", Name: name, At: at}}
	if i := culprit(list, name, at); i >= 0 {
		for seen := map[int]bool{}; i >= 0 && !seen[i]; i = waitedFor(list, i) {
			seen[i] = true
			st := &list[i]
			back = append(back, link{Kind: "service", Name: st.Name, At: st.Began,
				Took: max(0, min(st.Ready, at)-st.Began)})
			at = st.Began
		}
	}
	steps := slices.Clone(report.Steps)
	sort.SliceStable(steps, func(i,
		j int) bool {
		return steps[i].Start+steps[i].Duration < steps[j].Start+steps[j].Duration
	})
	for _, step := range slices.Backward(steps) {
		if step.Start+step.Duration <= at+exact {
			back = append(back, link{Kind: "step", Name: step.Name, At: step.Start, Took: step.Duration})
			at = step.Start
		}
	}
	back = append(back, link{Kind: "kernel", Name: "until /init ran", Took: at})
	if first, ok := report.Milestones[bootreport.MilestonePID1]; ok && first < at {
		back[len(back)-1].Took = first
	}
	slices.Reverse(back)
	for i := 1; i < len(back); i++ {
		back[i].Wait = max(0, back[i].At-back[i-1].At-back[i-1].Took)
	}
	return back
}

// exact is the precision of times, in seconds.
const exact = 1e-6

func lastMilestone(report bootreport.Report) (name string, at float64) {
	for n, t := range report.Milestones {
		if t > at || t == at && n < name {
			name, at = n, t
		}
	}
	return name, at
}

// culprit is the service that a milestone waited for: the one that causes it, or the last to be ready before it.
func culprit(list []pid1.ServiceStatus, milestone string, at float64) int {
	best := -1
	for i := range list {
		st := &list[i]
		if st.Began <= 0 || st.Began > at {
			continue
		}
		if st.Name == causes()[milestone] {
			return i
		}
		if st.Ready > 0 && st.Ready <= at+exact && (best < 0 || st.Ready > list[best].Ready) {
			best = i
		}
	}
	return best
}

// waitedFor is the last to be ready of those that service i waited for, or -1.
func waitedFor(list []pid1.ServiceStatus, i int) int {
	best := -1
	for j := range list {
		st := &list[j]
		name := st.Name
		if !slices.Contains(list[i].Needs, name) && !slices.Contains(list[i].Wants, name) &&
			!slices.Contains(list[i].After, name) {
			continue
		}
		if st.Ready > 0 && st.Ready <= list[i].Began+exact && (best < 0 || st.Ready > list[best].Ready) {
			best = j
		}
	}
	return best
}

// chainText shows the chain from the kernel on. Short steps share a line: a screen is small.
func (s *session) chainText(links []link) string {
	rows := [][]screen.Cell{screen.Header(">@", ">+", "", "WHAT", "")}
	total := links[len(links)-1].At
	short := max(total/100, 0.010)
	quick, spent, from := 0, 0.0, 0.0
	flush := func() {
		if quick > 0 {
			together := link{Kind: "step", Name: screen.Count(quick, "short step"), At: from, Took: spent}
			rows = append(rows, chainRow(together, screen.Dim, ""))
		}
		quick, spent = 0, 0
	}
	for _, l := range links {
		if l.Kind == "step" && l.Took < short && l.Wait < short {
			if quick++; quick == 1 {
				from = l.At
			}
			spent += l.Took
			continue
		}
		flush()
		c, remark := screen.Plain, ""
		if l.Wait >= short {
			remark = "after a wait of " + screen.Span(l.Wait)
		}
		if l.Kind == "milestone" {
			c, remark = screen.Bold, ""
			l.Took = l.Wait
		}
		if l.Took >= total/5 {
			c = screen.Red
		}
		rows = append(rows, chainRow(l, c, remark))
	}
	flush()
	return s.Table(rows) + s.Fit("@ is its start, counted from the start of the kernel; + is its duration") + "\n"
}

func chainRow(l link, c screen.Colour, remark string) []screen.Cell {
	return []screen.Cell{
		{Text: screen.Seconds(l.At), Right: true}, {Text: "+" + screen.Span(l.Took), Right: true, Colour: c},
		{Text: l.Kind, Colour: screen.Dim}, {Text: screen.Escape(l.Name), Colour: c},
		{Text: remark, Colour: screen.Yellow},
	}
}

// millis is a time to the millisecond whatever its length, so that a column of them lines up.
func millis(took float64) string {
	text := fmt.Sprintf("%.0f", took*1000)
	var b strings.Builder
	for i, r := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String() + "ms"
}
