package timeline

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/picture"
	"resinos/init/osctl/screen"
	"resinos/services/bootreport"
)

// The places of the picture, in pixels: names end before the plot, and behind it is room for the text of its last bar.
const (
	plotLeft   = 236.0
	plotWidth  = 640.0
	plotRight  = plotLeft + plotWidth
	wholeWidth = plotRight + 26*picture.Column + picture.Margin
	barHeight  = 10.0
)

// The bounds of the picture, whatever the report holds.
const (
	mostRows    = 100
	mostMarks   = 12
	nameColumns = 28
	markColumns = 17
)

// A plot is the picture of one boot, up to its first container.
type plot struct {
	picture.Canvas
	end    float64 // seconds at the right end
	rows   []moment
	marks  []moment
	lanes  []int    // of each mark: the line of its label
	hidden []string // what is not drawn
	scale  func(at float64) float64
}

// Picture draws this boot as an SVG document. It is part of the tool picture and not of osctl.
func Picture(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	if err := cli.Bare(flags, args); err != nil {
		return err
	}
	report, err := s.report(ctx)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.Stdout, draw(report))
	return err
}

// draw is the time line of a boot as an SVG document: steps and services as bars, milestones as vertical lines. Steps
// that would be thinner than a line are left out, and so is what began after the first container's output.
func draw(r booted) string {
	p := &plot{}
	goal := p.choose(r)
	p.scale = func(at float64) float64 { return plotLeft + plotWidth*max(0, min(at/p.end, 1)) }
	title := "Boot of " + screen.Seconds(p.end) + ", no container yet"
	if goal {
		title = "Boot to the first container: " + screen.Seconds(p.end)
	}
	y := picture.Margin + 14
	p.Text(picture.Margin, y, "title", title)
	p.Text(picture.Margin, y+picture.Line, "dim", picture.Cut("seconds since the start of the kernel"+
		where(r.Report), 100))
	y = p.frame(y + 3*picture.Line)
	for i := range p.rows {
		p.row(&p.rows[i], y+float64(i)*picture.Line)
	}
	y += float64(len(p.rows))*picture.Line + picture.Line
	y = p.legend(y + 1.5*picture.Line)
	for _, note := range p.hidden {
		p.Text(picture.Margin, y, "dim", note)
		y += picture.Line
	}
	return p.Document(wholeWidth, y-picture.Line+picture.Margin, title)
}

// choose selects what is drawn. goal is false when no container has written anything yet.
func (p *plot) choose(r booted) (goal bool) {
	all := slices.DeleteFunc(moments(r.Report, r.Services), func(m moment) bool {
		const year = 365 * 24 * 3600.0
		return !(m.Start >= 0 && m.Start < year && m.Duration >= 0 && m.Duration < year) // nor what is no number
	})
	for _, m := range all {
		p.end = max(p.end, m.Start+m.Duration)
	}
	first, goal := r.Milestones[bootreport.MilestoneContainerOutput]
	if goal = goal && first > 0 && first <= p.end; goal {
		p.end = first
	}
	if p.end <= 0 {
		p.end = 1
	}
	if at, ok := r.Milestones[bootreport.MilestonePID1]; ok && at > 0 {
		p.rows = append(p.rows, moment{Step: bootreport.Step{Name: "kernel", Stage: "kernel", Duration: min(at, p.end),
			Result: bootreport.ResultOK}})
	}
	late, thin := 0, 0
	for _, m := range all {
		switch {
		case m.Start > p.end:
			late++
		case m.kind == aMilestone:
			p.marks = append(p.marks, m)
		case m.kind == aStep && m.Result == bootreport.ResultOK && m.Duration < p.thin():
			thin++
		default:
			p.rows = append(p.rows, m)
		}
	}
	p.bound()
	if thin > 0 {
		p.hide(screen.Count(thin, "step") + " shorter than " + screen.Span(p.thin()))
	}
	if late > 0 {
		p.hide(screen.Count(late, "later event"))
	}
	return goal
}

// hide notes what is not drawn.
func (p *plot) hide(what string) {
	p.hidden = append(p.hidden, "left out: "+what+"; osctl boot lists all")
}

// thin is how long a step takes that would be a pixel wide.
func (p *plot) thin() float64 { return p.end / plotWidth }

// bound limits the rows to the longest and the milestones to the first and the last, and notes what is left out.
func (p *plot) bound() {
	if left := len(p.rows) - mostRows; left > 0 {
		p.hide(screen.Count(left, "more bar"))
		took := make([]float64, len(p.rows))
		for i := range p.rows {
			took[i] = p.rows[i].Duration
		}
		sort.Float64s(took)
		least := took[left-1]
		p.rows = slices.DeleteFunc(p.rows, func(m moment) bool {
			drop := left > 0 && m.Duration <= least
			if drop {
				left--
			}
			return drop
		})
	}
	if left := len(p.marks) - mostMarks; left > 0 {
		p.hide(screen.Count(left, "more milestone"))
		p.marks = append(p.marks[:mostMarks-1:mostMarks-1], p.marks[len(p.marks)-1])
	}
}

// frame draws stripes, axis and milestones below y, and returns where the first row begins. A label stands right of its
// line, and a line that meets the label of an earlier one begins below it.
func (p *plot) frame(y float64) float64 {
	p.lanes = make([]int, len(p.marks))
	most := 0
	for i, m := range p.marks {
		for j, before := range p.marks[:i] {
			if p.scale(m.Start) < p.scale(before.Start)+picture.Width(label(before))+10 {
				p.lanes[i] = max(p.lanes[i], p.lanes[j]+1)
			}
		}
		most = max(most, p.lanes[i]+1)
	}
	top := y + float64(most)*picture.Line
	bottom := top + float64(len(p.rows))*picture.Line
	for i := 0; i < len(p.rows); i += 2 {
		p.Bar(picture.Margin/2, top+float64(i)*picture.Line, wholeWidth-picture.Margin, picture.Line, "stripe", "")
	}
	step := tick(p.end)
	for n := 0; float64(n)*step <= p.end; n++ {
		x := p.scale(float64(n) * step)
		p.Path(x, top, x, bottom+4, "grid")
		p.Text(x, bottom+picture.Line, "mid dim", fmt.Sprintf("%.4g", float64(n)*step))
	}
	p.Text(plotRight+3*picture.Column, bottom+picture.Line, "dim", "s")
	for i, m := range p.marks {
		p.Path(p.scale(m.Start), y+float64(p.lanes[i])*picture.Line-11, p.scale(m.Start), bottom, "at")
	}
	for i, m := range p.marks {
		p.Text(p.scale(m.Start)+4, y+float64(p.lanes[i])*picture.Line, "mile over", label(m))
	}
	return top
}

func label(m moment) string { return picture.Cut(m.Name, markColumns) + " " + screen.Seconds(m.Start) }

// tick is the distance of the marks of an axis that is end long: 1, 2 or 5 times a power of ten, and at most 10 of it.
func tick(end float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(end/10)))
	for _, n := range []float64{1, 2, 5} {
		if end/(n*unit) <= 10 {
			return n * unit
		}
	}
	return 10 * unit
}

// row draws a step or a service.
func (p *plot) row(m *moment, y float64) {
	name := picture.Cut(m.Name, nameColumns)
	from, to := p.scale(m.Start), p.scale(m.Start+m.Duration)
	took, class, words := screen.Span(m.Duration), "over", ""
	switch resultColour(m.Result) {
	case screen.Yellow:
		class, words = "warn over", " "+m.Result
	case screen.Red:
		class, words = "bad over", " "+m.Result
	case screen.Dim:
		words = " " + m.Result
	}
	fill := fills(m)
	if m.kind == aService && m.Result != "up" {
		to, took, words = plotRight, "", m.Result
		fill += " open"
	} else if m.Start+m.Duration > p.end { // the plot ends with the first container
		words += ", ends later"
	}
	tip := m.Name + ": " + screen.Seconds(m.Start) + " + " + screen.Span(m.Duration) + " " + m.Result + " " + m.Error
	to = max(to, from+2)
	p.Text(plotLeft-picture.Column, y+13, "end", name)
	p.Bar(from, y+4, to-from, barHeight, fill, tip)
	p.Text(to+5, y+13, class, picture.Cut(took+words, 20))
}

// fills is the class of a bar.
func fills(m *moment) string {
	switch colour := resultColour(m.Result); {
	case colour == screen.Yellow:
		return "c4"
	case colour == screen.Red:
		return "c5"
	case m.kind == aService:
		return "c3"
	case m.Stage == bootreport.StageInitramfs:
		return "c1"
	case m.Stage == bootreport.StageRoot:
		return "c2"
	}
	return "c0"
}

// legend says what the colours mean that are there, and returns where the next line is.
func (p *plot) legend(y float64) float64 {
	x := plotLeft
	for _, entry := range [][2]string{{"c0", "kernel"}, {"c1", "step of the initramfs"}, {"c2", "step on the root"},
		{"c3", "service until it is up"}, {"c4", "degraded"}, {"c5", "failed"}} {
		there := slices.ContainsFunc(p.rows, func(m moment) bool { return fills(&m) == entry[0] })
		if !there {
			continue
		}
		p.Bar(x, y-9, barHeight, barHeight, entry[0], "")
		p.Text(x+15, y, "dim", entry[1])
		x += picture.Width(entry[1]) + 32
	}
	return y + picture.Line*1.5
}
