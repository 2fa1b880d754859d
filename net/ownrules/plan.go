package ownrules

import (
	"slices"
)

// verb is what is done with a file.
type verb string

const (
	keep   verb = "keep"   // it is loaded as it is, or was refused as it is
	load   verb = "load"   // in place of what it was
	remove verb = "remove" // the file is gone
	refuse verb = "refuse"
)

// step is what is done with one file.
type step struct {
	verb verb
	file File // as it was before
	now  source
}

// plan compares the files with what is loaded. there are the tables of the kernel: what somebody has removed by hand is
// loaded again.
func plan(sources []source, before []File, there []string) []step {
	var out []step
	for _, f := range before {
		if !slices.ContainsFunc(sources, func(s source) bool { return s.name == f.Name }) {
			out = append(out, step{verb: remove, file: f})
		}
	}
	for _, s := range sources {
		f := File{Name: s.name}
		if i := slices.IndexFunc(before, func(f File) bool { return f.Name == s.name }); i >= 0 {
			f = before[i]
		}
		whole := !slices.ContainsFunc(f.Tables, func(t string) bool { return !slices.Contains(there, t) })
		one := step{verb: load, file: f, now: s}
		switch {
		case s.err != nil:
			one.verb = refuse
		case s.digest == f.Digest && whole, s.digest == f.Tried:
			one.verb = keep
		}
		out = append(out, one)
	}
	return out
}
