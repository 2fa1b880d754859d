// Package policy decides whether a bundle is for a device: board, variant, versions, rollback index, size of the slot.
//
// It is pure. It never reads a bundle and never verifies a signature: package bundle has done that before. Read first:
// Policy.
package policy

import (
	"errors"
	"fmt"

	"golang.org/x/mod/semver"

	"resinos/bsp/bundle"
)

// Running is what a device runs, and what it can take.
type Running struct {
	Board, Variant, Version string
	RollbackIndex           int64 // the highest one that was confirmed
	SlotSize                int64 // bytes of the idle slot's partition; 0: unknown
}

// Policy is what the owner allows on purpose.
type Policy struct {
	Same    bool // the version that runs, again
	Older   bool // an older version, if its rollback index is not lower
	Variant bool // another variant of the same board
}

// Faults of a bundle that is not for this device now, on which a caller may branch.
var (
	ErrBoard    = errors.New("the bundle is for another board")
	ErrVariant  = errors.New("the bundle is of another variant")
	ErrSame     = errors.New("this version runs already")
	ErrOlder    = errors.New("the bundle is older than what runs")
	ErrTooOld   = errors.New("what runs is too old for this bundle")
	ErrRollback = errors.New("the bundle was withdrawn")
	errVersion  = errors.New("the version that runs is unknown")
)

// Check judges whether a device may install the bundle with this manifest. The error names all reasons against it.
func (p Policy) Check(m bundle.Manifest, r Running) error {
	var faults []error
	refuse := func(is bool, why error, format string, args ...any) {
		if is {
			faults = append(faults, fmt.Errorf("%w: "+format, append([]any{why}, args...)...))
		}
	}
	refuse(m.Board != r.Board, ErrBoard, "%s, this device is %s", m.Board, r.Board)
	refuse(m.Variant != r.Variant && !p.Variant, ErrVariant, "%s, this device runs %s", m.Variant, r.Variant)
	refuse(m.RollbackIndex < r.RollbackIndex, ErrRollback,
		"its rollback index is %d, this device has confirmed %d", m.RollbackIndex, r.RollbackIndex)
	refuse(r.SlotSize > 0 && m.Slot.Size > r.SlotSize, bundle.ErrSize,
		"it has %d bytes, the bundle needs %d", r.SlotSize, m.Slot.Size)
	if !bundle.ValidVersion(r.Version) {
		return errors.Join(append(faults,
			fmt.Errorf("%w: %q: want three numbers such as 1.2.3", errVersion, r.Version))...)
	}
	order := semver.Compare("v"+m.Version, "v"+r.Version)
	refuse(order == 0 && !p.Same, ErrSame, "%s", m.Version)
	refuse(order < 0 && !p.Older, ErrOlder, "%s, and %s runs", m.Version, r.Version)
	refuse(m.MinFrom != "" && semver.Compare("v"+r.Version, "v"+m.MinFrom) < 0, ErrTooOld,
		"%s runs, it replaces %s or later; install that first", r.Version, m.MinFrom)
	return errors.Join(faults...)
}
