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

// arrange puts services into sections, and within each section a service below the one that it needs. The section of
// problems comes first, with each failed service and below it those that depend on it. Services that start on demand,
// and those that are off, have sections of their own, unless they depend on a failed one.
func arrange(list []pid1.ServiceStatus, g screen.Glyphs) []section {
	parents := make([]int, len(list))
	for i := range list {
		parents[i] = parentOf(list, i)
	}
	loosen(parents)
	sections := []section{{title: "wrong"}, {title: "running"}, {title: "on demand"}, {title: "off"}}
	// A child is listed below its parent only if both belong to the same section, or if the parent has failed.
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

// hang appends the services below service i.
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

// parentOf chooses the need below which a service is listed: one that has failed, else one that is off, else the last
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

// loosen cuts cycles, which a faulty definition can have.
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

// place returns the number of the section of service i.
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
