package ownlink

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"

	"resinos/net/assignment"
)

// Keeper makes the links those that profiles ask for. It belongs to one goroutine.
type Keeper struct {
	Log    *slog.Logger
	Faults map[string]string // by key file: why its link is not as wanted

	idle  bool             // no profile asks for a link, and none of ours is there
	stuck map[string]error // by step: why it is of no use to try it again
}

// passes bounds how often one call plans: a link that has just been created gets its options in the second pass, and
// may be the parent of a vlan, which gets them in the third.
const passes = 5

// errKept is what becomes of a step that the kernel takes without a result.
var errKept = errors.New("the kernel has kept another value")

// Ensure observes, plans and applies until the links are as wanted. entries are the profiles that are to be in force,
// assigned those that links have, by index. Without such profiles it costs one list of links in the life of k.
func (k *Keeper) Ensure(entries []assignment.Entry, assigned map[int]assignment.Entry) {
	asks := slices.ContainsFunc(entries, func(e assignment.Entry) bool {
		return e.Profile.Connection.PortType != "" || assignment.Creates(e.Profile)
	})
	if !asks && k.idle {
		return
	}
	before := k.Faults
	stuck, done := map[string]error{}, map[string]error{}
	for again, pass := true, 0; again && pass < passes; pass++ {
		actual, err := Observe()
		if err != nil {
			k.Log.Warn("links of profiles not as wanted", "error", err)
			return
		}
		plan := Plan(entries, assigned, actual)
		k.Faults, again = plan.Faults, false
		for _, s := range plan.Steps {
			text := s.String()
			why := cmp.Or(k.stuck[text], done[text])
			if why == nil {
				if why = Apply(s); why == nil {
					k.Log.Info("link step", "step", text)
					done[text], again = errKept, true
					continue
				}
				done[text] = why
			}
			stuck[text] = why
			k.Faults[s.File] = text + ": " + why.Error()
		}
		k.idle = !asks && len(plan.Steps) == 0
	}
	k.stuck = stuck
	for file, why := range k.Faults {
		if before[file] != why {
			k.Log.Warn("link of a profile not as wanted", "file", file, "error", why)
		}
	}
}
