package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"resinos/services/control"
	"resinos/services/log/entry"
	"resinos/services/moment"
)

// A Filter says which entries a query wants. The zero Filter wants all that are there.
type Filter struct {
	// Names keeps the entries whose names one of these covers: NAME is for NAME and for NAME.*, as Covers has it.
	Names []string `json:"names,omitempty"`
	// Kinds keeps kernel, syslog, service or container entries.
	Kinds []string `json:"kinds,omitempty"`
	// Priority, if not nil, drops the entries that are less urgent, which are those with a greater number.
	Priority *int `json:"priority,omitempty"`
	// Since and Until, if not nil, bound the time of the entries: Since <= entry < Until.
	Since *moment.Moment `json:"since,omitempty"`
	Until *moment.Moment `json:"until,omitempty"`
	// Boot keeps the entries of one boot: "0" is this one, "-1" the one before, else the beginning of a boot id.
	Boot string `json:"boot,omitempty"`
	// Last begins with the last so many of the wanted entries: 0 for all, -1 for none.
	Last int `json:"last,omitempty"`
	// Follow goes on with what comes.
	Follow bool `json:"follow,omitempty"`
}

const (
	// maxNames bounds a filter from outside.
	maxNames = 64
	// minBootID is how many digits of a boot id must be given, so that no number can be taken for one.
	minBootID = 4
)

func (f *Filter) check() error {
	switch {
	case len(f.Names) > maxNames:
		return fmt.Errorf("check log filter: more than %d names", maxNames)
	case f.Priority != nil && (*f.Priority < 0 || *f.Priority > 7):
		return fmt.Errorf("check log filter: priority %d is not 0 to 7", *f.Priority)
	case f.Last < -1:
		return fmt.Errorf("check log filter: last %d entries", f.Last)
	case f.Boot != "" && !IsBoot(f.Boot):
		return &control.Error{Text: fmt.Sprintf("check log filter: %q is no boot", f.Boot),
			Hint: "try: osctl logs --boots"}
	}
	return nil
}

// IsBoot reports whether text can stand in Filter.Boot.
func IsBoot(text string) bool {
	if n, err := strconv.Atoi(text); err == nil && n <= 0 && len(text) < minBootID {
		return text[0] != '+'
	}
	for i := range len(text) {
		if c := text[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(text) >= minBootID && len(text) <= 36 && text[0] != '-'
}

// match looks at everything but the message and the boot, which was chosen before.
func (f *Filter) match(e *entry.Entry) bool {
	return (f.Priority == nil || e.Priority <= *f.Priority) &&
		(f.Since == nil || f.Since.Reached(e.Time, e.Boottime)) &&
		(f.Until == nil || !f.Until.Reached(e.Time, e.Boottime)) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(len(f.Names) == 0 || slices.ContainsFunc(f.Names, func(name string) bool { return Covers(name, e.Name) }))
}

// Covers reports whether the name of an entry is name, or begins with name and a dot. The log does not know why names
// have dots; who names containers APP.SERVICE gets all of an app by the name APP.
func Covers(name, entry string) bool {
	rest, ok := strings.CutPrefix(entry, name)
	return ok && (rest == "" || rest[0] == '.')
}
