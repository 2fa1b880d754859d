package logd

import (
	"fmt"
	"slices"
	"strings"

	"resinos/services/logring"
)

// A Filter says which entries a query wants. The zero Filter wants all that are there.
type Filter struct {
	// Names keeps the entries of these services, apps (with all their services), or APP.SERVICE.
	Names []string `json:"names,omitempty"`
	// Kinds keeps kernel, service or container entries.
	Kinds []string `json:"kinds,omitempty"`
	// Priority, if not nil, drops the entries that are less urgent, which are those with a greater number.
	Priority *int `json:"priority,omitempty"`
	// Last begins with the last so many of the wanted entries: 0 for all, -1 for none.
	Last int `json:"last,omitempty"`
	// Follow goes on with what comes.
	Follow bool `json:"follow,omitempty"`
}

// maxNames bounds a filter from outside.
const maxNames = 64

func (f *Filter) check() error {
	switch {
	case len(f.Names) > maxNames:
		return fmt.Errorf("check log filter: more than %d names", maxNames)
	case f.Priority != nil && (*f.Priority < 0 || *f.Priority > 7):
		return fmt.Errorf("check log filter: priority %d is not 0 to 7", *f.Priority)
	case f.Last < -1:
		return fmt.Errorf("check log filter: last %d entries", f.Last)
	}
	return nil
}

// match looks at everything but the message.
func (f *Filter) match(e *logring.Entry) bool {
	return (f.Priority == nil || e.Priority <= *f.Priority) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(len(f.Names) == 0 || slices.ContainsFunc(f.Names, func(name string) bool { return covers(name, e.Name) }))
}

// covers reports whether name is the entry's, or the app that the entry's container is part of.
func covers(name, entry string) bool {
	rest, ok := strings.CutPrefix(entry, name)
	return ok && (rest == "" || rest[0] == '.')
}
