package policy

import (
	"errors"
	"slices"
	"testing"

	"resinos/bsp/bundle"
)

type change = func(*bundle.Manifest, *Running)

// to changes the version of the bundle, from that of the device.
func to(version string) change   { return func(m *bundle.Manifest, _ *Running) { m.Version = version } }
func from(version string) change { return func(_ *bundle.Manifest, r *Running) { r.Version = version } }

func variant(m *bundle.Manifest, _ *Running)   { m.Variant = "development" }
func kettle(m *bundle.Manifest, _ *Running)    { m.Board = "kettle" }
func small(_ *bundle.Manifest, r *Running)     { r.SlotSize = 99 }
func withdrawn(_ *bundle.Manifest, r *Running) { r.RollbackIndex = 6 }

func TestCheck(t *testing.T) {
	all := []error{ErrBoard, ErrVariant, ErrSame, ErrOlder, ErrTooOld, ErrRollback, bundle.ErrSize, errVersion}
	device := Running{Board: "toaster", Variant: "production", Version: "1.2.3", RollbackIndex: 5, SlotSize: 100}
	good := bundle.Manifest{
		Board: "toaster", Variant: "production", Version: "1.3.0", MinFrom: "1.2.0", RollbackIndex: 5,
		Slot: bundle.SlotImage{Size: 100},
	}
	for name, c := range map[string]struct {
		policy Policy
		change change
		want   []error
	}{
		"newer":                  {},
		"board":                  {change: kettle, want: []error{ErrBoard}},
		"variant":                {change: variant, want: []error{ErrVariant}},
		"variant, allowed":       {policy: Policy{Variant: true}, change: variant},
		"same":                   {change: to("1.2.3"), want: []error{ErrSame}},
		"same but for the build": {change: to("1.2.3+7"), want: []error{ErrSame}},
		"same, allowed":          {policy: Policy{Same: true}, change: to("1.2.3")},
		"older":                  {change: to("1.2.2"), want: []error{ErrOlder}},
		"older, same allowed":    {policy: Policy{Same: true}, change: to("1.2.2"), want: []error{ErrOlder}},
		"older, allowed":         {policy: Policy{Older: true}, change: to("1.2.2")},
		"ten is more than nine":  {change: from("1.10.0"), want: []error{ErrOlder}},
		"from a candidate":       {change: from("1.3.0-rc.2")},
		"to a candidate": {
			change: func(m *bundle.Manifest, r *Running) { m.Version, r.Version = "1.3.0-rc.2", "1.3.0" },
			want:   []error{ErrOlder},
		},
		"from too old":            {change: from("1.1.9"), want: []error{ErrTooOld}},
		"from the oldest allowed": {change: from("1.2.0")},
		"from any":                {change: func(m *bundle.Manifest, _ *Running) { m.MinFrom = "" }},
		"withdrawn":               {change: withdrawn, want: []error{ErrRollback}},
		"withdrawn, all allowed":  {policy: Policy{true, true, true}, change: withdrawn, want: []error{ErrRollback}},
		"board, all allowed": {
			policy: Policy{true, true, true}, want: []error{ErrBoard},
			change: func(m *bundle.Manifest, _ *Running) { m.Board = "" },
		},
		"slot too small":       {change: small, want: []error{bundle.ErrSize}},
		"slot of unknown size": {change: func(_ *bundle.Manifest, r *Running) { r.SlotSize = 0 }},
		"everything at once": {
			change: func(m *bundle.Manifest, _ *Running) { *m = bundle.Manifest{Version: "1.0.0"} },
			want:   []error{ErrBoard, ErrVariant, ErrOlder, ErrRollback},
		},
		"the device has no version": {change: from(""), want: []error{errVersion}},
	} {
		m, r := good, device
		if c.change != nil {
			c.change(&m, &r)
		}
		err := c.policy.Check(m, r)
		for _, why := range all {
			wanted := slices.Contains(c.want, why)
			if errors.Is(err, why) != wanted {
				t.Errorf("%s: %v; %q wanted: %v", name, err, why, wanted)
			}
		}
	}
}
