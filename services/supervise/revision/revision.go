// Package revision compares the known services with service files that were read again. It is pure: the supervisor acts
// on the difference. Read Compare first.
package revision

import (
	"reflect"
	"slices"

	"resinos/services/spec"
)

// Known is a service that the supervisor knows.
type Known struct {
	Spec    *spec.Spec
	Removed bool // its file was gone the last time
	Stops   bool // there is something to stop before it can be forgotten
}

// Fate is what the files mean for a known service. The zero value is no change.
type Fate struct {
	Changed bool // its file says something else
	Removed bool // its file is gone
	Forget  bool // its file is gone, and nothing has to be stopped
	Reopen  bool // the file names other sockets: those that are open must be closed
}

// Revision is the difference.
type Revision struct {
	Added, Changed, Removed []string // names of services
	Fates                   []Fate   // one for each known service
	Specs                   []spec.Spec
}

// Compare compares known with list. Specs are then all services that the supervisor must know: those of list, and those
// that are removed and must be stopped.
func Compare(known []Known, list []spec.Spec) Revision {
	r := Revision{Fates: make([]Fate, len(known)), Specs: slices.Clone(list)}
	wanted := make(map[string]*spec.Spec, len(list))
	for i := range list {
		wanted[list[i].Name] = &list[i]
	}
	names := make(map[string]bool, len(known))
	for i, k := range known {
		names[k.Spec.Name] = true
		r.Fates[i] = r.compare(k, wanted[k.Spec.Name])
	}
	for i := range list {
		if !names[list[i].Name] {
			r.Added = append(r.Added, list[i].Name)
		}
	}
	slices.Sort(r.Added)
	return r
}

// compare compares one service with its new definition, which is nil if its file is gone.
func (r *Revision) compare(k Known, now *spec.Spec) (f Fate) {
	name := k.Spec.Name
	switch {
	case now == nil:
		if !k.Removed {
			r.Removed = append(r.Removed, name)
		}
		if k.Stops {
			leaving := *k.Spec
			leaving.Needs, leaving.Wants, leaving.After = nil, nil, nil // it never starts again
			r.Specs = append(r.Specs, leaving)
		}
		return Fate{Removed: true, Forget: !k.Stops}
	case k.Removed:
		r.Added = append(r.Added, name) // its file is there again
	case !reflect.DeepEqual(now, k.Spec):
		r.Changed = append(r.Changed, name)
		f.Changed = true
	default:
		return f
	}
	f.Reopen = !reflect.DeepEqual(now.Listen, k.Spec.Listen)
	return f
}
