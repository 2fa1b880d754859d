package judge

import (
	"encoding/json"
	"strings"
	"testing"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
)

// TestUpdateRule states what a disk may be in an update, and what it may not.
func TestUpdateRule(t *testing.T) {
	versions := []Version{{Name: "1", Digest: "one"}, {Name: "2", Digest: "two"}, {}}
	trial := update.Attempt{Version: "2", Slot: slot.B, Digest: "two", State: update.Trial, ArmedIn: "first"}
	writing := update.Attempt{Version: "2", Slot: slot.B, Digest: "two", State: update.Writing}
	left := update.Attempt{Version: "2", Slot: slot.B, State: update.Failed, LeftIn: "second"}
	armed := bootvars.Variables{Slot: slot.A, Try: slot.B, Tries: bootvars.MostTries}
	last := bootvars.Variables{Slot: slot.A, Try: slot.B, Tries: "1"}
	idle, kept := bootvars.Variables{Slot: slot.A}, bootvars.Variables{Slot: slot.B}
	claims := func(name slot.Name, version, digest string) update.Record {
		return update.Record{Slots: map[slot.Name]update.Content{name: {Version: version, Digest: digest}}}
	}
	of := func(a update.Attempt) update.Record { return update.Record{Attempts: []update.Attempt{a}} }
	for _, test := range []struct {
		name   string
		v      bootvars.Variables
		r      update.Record
		a, b   string
		reason string // why it is bad
	}{
		{"new", idle, update.Record{}, "1", "", ""},
		{"being written", idle, of(writing), "1", Incomplete, ""},
		{"recorded, not switched", idle, of(trial), "1", "2", ""},
		{"switched", armed, of(trial), "1", "2", ""},
		{"last try", last, of(trial), "1", "2", ""},
		{"switched, record lost", armed, update.Record{}, "1", "2", ""},
		{"confirmed, not recorded", kept, of(trial), "1", "2", ""},
		{"left, not switched back", last, of(left), "1", "2", ""},
		{"claims true", idle, claims(slot.B, "2", "two"), "1", "2", ""},

		{"switched too early", armed, of(trial), "1", Incomplete, "slot B is on trial, and it is incomplete"},
		{"switched to an empty slot", armed, of(trial), "1", "", "slot B is on trial"},
		{"the slot that runs is written", idle, of(writing), Incomplete, "2", `slot "A" is booted, and it is "inc`},
		{"kept too early", kept, update.Record{}, "1", Incomplete, `slot "B" is booted`},
		{"nothing left", idle, update.Record{}, Incomplete, Incomplete, "is booted"},
		{"claims another version", idle, claims(slot.B, "2", "two"), "1", "1", "says that slot B holds version 2"},
		{"claims other bytes", idle, claims(slot.B, "2", "three"), "1", "2", "the record says that slot B"},
		{"claims what is half written", idle, claims(slot.B, "2", ""), "1", Incomplete, "the record says that slot B"},
	} {
		file, err := bootvars.Grub.Encode(test.v)
		if err != nil {
			t.Fatal(err)
		}
		test.r.Format = 1
		text, err := json.Marshal(test.r)
		if err != nil {
			t.Fatal(err)
		}
		bad := updateRule(bootvars.Grub, versions, map[string]string{FactVariables: string(file),
			FactRecord: string(text), FactSlotA: test.a, FactSlotB: test.b})
		if (bad == "") != (test.reason == "") || !strings.Contains(bad, test.reason) {
			t.Errorf("%s: %q, want %q", test.name, bad, test.reason)
		}
	}
	for facts, want := range map[[2]string]string{{"", ""}: "does not begin with", {"x", "{"}: "does not begin with"} {
		if bad := updateRule(bootvars.Grub, versions, map[string]string{FactVariables: facts[0], FactRecord: facts[1],
			FactSlotA: "1"}); !strings.Contains(bad, want) {
			t.Errorf("%q: %q", facts, bad)
		}
	}
}
