package status

import (
	"slices"

	"resinos/init/osctl/look"
	"resinos/init/osctl/screen"
	"resinos/services/pid1"
)

// treeRow is one service in its place: prefix is the branch that leads to it.
type treeRow struct {
	st     *pid1.ServiceStatus
	prefix string
}

type section struct {
	title string
	rows  []treeRow
}

// arrange puts services into sections, and within each those that need another one below it. What is wrong comes first
// and takes along only what stands on it, so that the cause is on top and its victims are below. A service that starts
// on demand, or is off, stands in a section of its own unless it is the victim of something wrong.
func arrange(list []pid1.ServiceStatus, g screen.Glyphs) []section {
	parents := make([]int, len(list))
	for i := range list {
		parents[i] = parentOf(list, i)
	}
	loosen(parents)
	sections := []section{{title: "wrong"}, {title: "running"}, {title: "on demand"}, {title: "off"}}
	// A child is drawn below its parent only if it belongs to the same section, or its parent is in the wrong.
	places := make([]int, len(list))
	for i := range list {
		places[i] = place(list, parents, i)
	}
	for i := range list {
		if p := parents[i]; p >= 0 && places[p] != places[i] {
			parents[i] = -1
		}
	}
	for i, p := range parents {
		if p < 0 {
			to := &sections[places[i]].rows
			*to = append(*to, treeRow{st: &list[i]})
			*to = hang(*to, list, parents, i, "", g)
		}
	}
	return sections
}

// hang appends what stands below service i.
func hang(rows []treeRow, list []pid1.ServiceStatus, parents []int, i int, prefix string, g screen.Glyphs) []treeRow {
	var children []int
	for j, p := range parents {
		if p == i {
			children = append(children, j)
		}
	}
	for n, j := range children {
		branch, bar := g.Branch, g.Bar
		if n == len(children)-1 {
			branch, bar = g.Corner, "  "
		}
		rows = append(rows, treeRow{&list[j], prefix + branch})
		rows = hang(rows, list, parents, j, prefix+bar, g)
	}
	return rows
}

// parentOf chooses the one need that a service is drawn below: one that is wrong, else one that is off, else the last
// to start.
func parentOf(list []pid1.ServiceStatus, i int) int {
	best, rank := -1, 0
	if len(list[i].Needs) == 0 {
		return best
	}
	for j := range list {
		if j == i || !slices.Contains(list[i].Needs, list[j].Name) {
			continue
		}
		r := 1
		switch look.Of(&list[j]) {
		case look.Wrong:
			r = 3
		case look.Off:
			r = 2
		}
		if r >= rank {
			best, rank = j, r
		}
	}
	return best
}

// loosen cuts cycles open: a definition can be that wrong.
func loosen(parents []int) {
	for i := range parents {
		for j, steps := parents[i], 0; j >= 0; j, steps = parents[j], steps+1 {
			if j == i || steps > len(parents) {
				parents[i] = -1
				break
			}
		}
	}
}

// place is the number of the section that service i belongs to.
func place(list []pid1.ServiceStatus, parents []int, i int) int {
	for j := i; j >= 0; j = parents[j] {
		if look.Of(&list[j]) == look.Wrong {
			return 0
		}
	}
	switch st := &list[i]; {
	case st.State == "waiting" && parents[i] >= 0:
		return place(list, parents, parents[i])
	case len(st.Demand) > 0 && st.State != "masked":
		return 2
	case look.Of(st) == look.Off:
		return 3
	}
	return 1
}
