package dependency

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/look"
	"resinos/init/osctl/picture"
	"resinos/init/osctl/screen"
)

// The places of the picture, in pixels, and its bounds, whatever the services are.
const (
	rowHeight   = 24.0
	trackWidth  = 22.0
	nameColumns = 40
	mostRows    = 100
	mostTracks  = 24
	textColumns = 64
	legendWidth = 660.0
)

// A track is the vertical line of a service that others depend on: from its own row to the rows of those.
type track struct {
	owner, place    int // row; and how many tracks are left of it
	from, to        int // the first and the last row
	strokes, filled string
}

// A chart is the picture of a graph: a row for each service, in the order of start, and tracks beside them.
type chart struct {
	picture.Canvas
	ties   ties
	order  []int // services by row
	row    []int // rows by service, or -1
	tracks []track
	wide   int // how many tracks are side by side
	left   float64
	top    float64
}

// Picture draws the services that graph would show, as an SVG document. It is part of the tool picture and not of
// osctl.
func Picture(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	reverse := flags.Bool("reverse", false, "draws the services that depend on a service")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	t := newTies(list, *reverse)
	roots, err := t.chosen(names)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.Stdout, t.svg(roots))
	return err
}

// svg draws what the roots lead to as an SVG document. A mark is where the row of a service meets the track of one that
// it depends on, so no two lines can be confused, however many there are.
func (t ties) svg(roots []int) string {
	forward := newTies(t.list, false)
	c := &chart{ties: forward, order: forward.startOrder(t.reach(roots)), row: make([]int, len(t.list))}
	hidden := max(0, len(c.order)-mostRows)
	c.order = c.order[:len(c.order)-hidden]
	for i := range c.row {
		c.row[i] = -1
	}
	columns := 8
	for at, i := range c.order {
		c.row[i] = at
		columns = max(columns, screen.Width(picture.Cut(t.list[i].Name, nameColumns)))
	}
	c.left, c.top = picture.Margin+float64(columns+5)*picture.Column, picture.Margin+3*picture.Line
	untracked := c.lay()
	title := "Services in the order of their start"
	c.Text(picture.Margin, picture.Margin+14, "title", title)
	c.Text(picture.Margin, picture.Margin+14+picture.Line, "dim", "a service starts below those that it depends on")
	right := c.left + float64(c.wide)*trackWidth + picture.Column
	width := max(right+float64(textColumns)*picture.Column, legendWidth) + picture.Margin
	for at := 0; at < len(c.order); at += 2 {
		c.Bar(picture.Margin/2, c.y(at)-rowHeight/2, width-picture.Margin, rowHeight, "stripe", "")
	}
	c.lines()
	for at := range c.order {
		c.service(at, right)
	}
	y := c.legend(c.top + float64(len(c.order))*rowHeight + 1.7*picture.Line)
	if hidden > 0 || untracked > 0 {
		c.Text(picture.Margin, y, "dim", fmt.Sprintf("%s and the lines of %d more not drawn; osctl graph lists all",
			screen.Count(hidden, "service"), untracked))
		y += picture.Line
	}
	return c.Document(width, y, title)
}

// startOrder sorts services so that each comes after those that it depends on, and else as they are. In a cycle one of
// them comes first.
func (t ties) startOrder(inside []int) []int {
	wanted, seen := make([]bool, len(t.list)), make([]bool, len(t.list))
	for _, i := range inside {
		wanted[i] = true
	}
	var order []int
	var visit func(i int)
	visit = func(i int) {
		if seen[i] || !wanted[i] {
			return
		}
		seen[i] = true
		for _, e := range t.out[i] {
			visit(e.to)
		}
		order = append(order, i)
	}
	for _, i := range inside {
		visit(i)
	}
	return order
}

// y is the middle of a row.
func (c *chart) y(row int) float64 { return c.top + (float64(row)+0.5)*rowHeight }

// x is the middle of a track.
func (c *chart) x(tr *track) float64 { return c.left + (float64(tr.place)+0.5)*trackWidth }

// lay finds a place for each track: the leftmost that no other track has in the same rows. It returns how many services
// have none, because there are too many.
func (c *chart) lay() (untracked int) {
	spans := make([]track, len(c.order))
	for row := range spans {
		spans[row] = track{owner: row, from: row, to: row}
	}
	for row, i := range c.order {
		for _, e := range c.ties.out[i] {
			if to := c.row[e.to]; to >= 0 && to != row {
				spans[to].from, spans[to].to = min(spans[to].from, row), max(spans[to].to, row)
			}
		}
	}
	for _, tr := range spans {
		if tr.from == tr.to {
			continue
		}
		if tr.place = c.free(&tr); tr.place >= mostTracks {
			untracked++
			continue
		}
		colour := string("2634"[len(c.tracks)%4])
		tr.strokes, tr.filled = "s"+colour, "c"+colour
		c.tracks = append(c.tracks, tr)
		c.wide = max(c.wide, tr.place+1)
	}
	return untracked
}

// free is the leftmost place that is free in the rows of a track.
func (c *chart) free(tr *track) int {
	taken := make([]bool, len(c.tracks)+1)
	for _, other := range c.tracks {
		if other.from <= tr.to && tr.from <= other.to {
			taken[other.place] = true
		}
	}
	for place, is := range taken {
		if !is {
			return place
		}
	}
	return len(taken)
}

// lines draws the tracks, and what leads from the name of a service to its own.
func (c *chart) lines() {
	for i := range c.tracks {
		tr := &c.tracks[i]
		own := c.y(tr.owner)
		name := picture.Cut(c.ties.list[c.order[tr.owner]].Name, nameColumns)
		c.Path(picture.Margin+28+picture.Width(name), own, c.x(tr), c.y(tr.to), tr.strokes)
		if tr.from < tr.owner {
			c.Path(c.x(tr), own, c.x(tr), c.y(tr.from), tr.strokes)
		}
	}
}

// service draws the name and the state of a service, its marks on the tracks of others, and what they say in words.
func (c *chart) service(row int, right float64) {
	i := c.order[row]
	st := &c.ties.list[i]
	y := c.y(row)
	fill := [...]string{look.Up: "c3", look.Done: "c3 open", look.Moving: "c4", look.Off: "c0", look.Wrong: "c5"}
	c.Dot(picture.Margin+6, y, 4.5, fill[look.Of(st)], st.Name+": "+st.State+" "+st.Description)
	c.Text(picture.Margin+20, y+4, "over", picture.Cut(st.Name, nameColumns))
	words := map[string][]string{}
	for _, e := range c.ties.out[i] {
		words[e.word] = append(words[e.word], c.ties.list[e.to].Name)
		for k := range c.tracks {
			if tr := &c.tracks[k]; tr.owner == c.row[e.to] && e.to != i {
				tip := st.Name + " " + e.word + " " + c.ties.list[e.to].Name
				c.mark(c.x(tr), y, e.word, tr, tip)
			}
		}
	}
	said := []string{st.State}
	for _, word := range []string{"needs", "wants", "after"} {
		if len(words[word]) > 0 {
			said = append(said, word+" "+strings.Join(words[word], ", "))
		}
	}
	c.Text(right, y+4, "dim", picture.Cut(strings.Join(said, "; "), textColumns))
}

// mark is how a service depends on the one whose track it is on.
func (c *chart) mark(x, y float64, word string, tr *track, tip string) {
	switch word {
	case "needs":
		c.Dot(x, y, 5, tr.filled, tip)
	case "wants":
		c.Dot(x, y, 4.5, "ring "+tr.strokes, tip)
	default:
		c.Dot(x, y, 3, tr.filled, tip)
	}
}

// legend says what the marks mean, and returns where the next line is.
func (c *chart) legend(y float64) float64 {
	x := picture.Margin + 6
	grey := &track{strokes: "s0", filled: "c0"}
	for _, entry := range [][2]string{{"needs", "needs: runs only while it is up"},
		{"wants", "wants: has it started too"}, {"after", "after: starts later"}} {
		c.mark(x, y-4, entry[0], grey, "")
		c.Text(x+14, y, "dim", entry[1])
		x += picture.Width(entry[1]) + 36
	}
	return y + picture.Line*1.5
}
