package timeline

import (
	"context"
	"flag"
	"io"
	"sort"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// blamed is how long one service took, in seconds.
type blamed struct {
	Name  string  `json:"name"`
	Began float64 `json:"began"` // since the kernel started
	Took  float64 `json:"took"`
	Ready bool    `json:"ready"` // else it is not up yet and Took is what it has taken so far
}

// Blame runs the command blame.
func Blame(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	all := blameOf(list, s.Now().Seconds())
	if *asJSON {
		return s.PrintJSON(all)
	}
	_, err = io.WriteString(s.Stdout, s.blameText(all))
	return err
}

// blameOf lists the services that were started by the time they took, the slowest first.
func blameOf(list []pid1.ServiceStatus, now float64) []blamed {
	all := []blamed{}
	for i := range list {
		st := &list[i]
		switch {
		case st.Began <= 0: // never started
		case st.Ready >= st.Began:
			all = append(all, blamed{st.Name, st.Began, st.Ready - st.Began, true})
		case st.PID > 0:
			all = append(all, blamed{st.Name, st.Began, max(0, now-st.Began), false})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Took > all[j].Took })
	return all
}

// blameText shows the times as bars of one scale, that of the slowest service that is up.
func (s *session) blameText(all []blamed) string {
	longest := 0.0
	rows := [][]screen.Cell{screen.Header(">TOOK", ">AT", "SERVICE", "")}
	for _, b := range all {
		if b.Ready {
			longest = max(longest, b.Took)
		}
		rows = append(rows, []screen.Cell{
			{Text: millis(b.Took), Right: true}, {Text: screen.Seconds(b.Began), Right: true, Colour: screen.Dim},
			{Text: screen.Escape(b.Name)}, {},
		})
	}
	left := s.barSpace(rows)
	for i, b := range all {
		bar := &rows[i+1][3]
		switch {
		case !b.Ready:
			*bar = screen.Cell{Text: "not up yet", Colour: screen.Yellow}
		case longest > 0 && left > 0:
			length := max(1, int(b.Took/longest*float64(left)+0.5))
			*bar = screen.Cell{Text: strings.Repeat(s.Glyphs().Block, length), Colour: screen.Dim}
		}
	}
	legend := "AT is the start of the program, counted from the start of the kernel; try: osctl chain"
	return s.Table(rows) + s.Fit(legend) + "\n"
}

// barSpace is how long a bar behind the rows may be.
func (s *session) barSpace(rows [][]screen.Cell) int {
	if s.Columns <= 0 {
		return barWidth
	}
	var widths [3]int
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], screen.Width(row[i].Text)+2)
		}
	}
	return min(s.Columns-widths[0]-widths[1]-widths[2], 2*barWidth)
}
