package transaction

import (
	"log/slog"
	"testing"

	"resinos/services/spec"
)

// TestArrangeInPlace: the definitions are put into order where they lie, and of two of one name the first counts.
func TestArrangeInPlace(t *testing.T) {
	list := []spec.Spec{
		{Name: "d", Description: "d1", Needs: []string{"a"}},
		{Name: "b", Description: "b1", After: []string{"d"}},
		{Name: "d", Description: "d2"},
		{Name: "a", Description: "a1"},
		{Name: "c", Description: "c1", Needs: []string{"b"}},
		{Name: "a", Description: "a2"},
	}
	g, specs := Arrange(list, slog.New(slog.DiscardHandler))
	if len(specs) != 4 || len(g.Names) != 4 {
		t.Fatalf("arrange gives %d definitions of %v", len(specs), g.Names)
	}
	for i, name := range g.Names {
		if specs[i].Name != name || specs[i].Description != name+"1" {
			t.Errorf("place %d: %s %q, want %s", i, specs[i].Name, specs[i].Description, name)
		}
	}
	if &specs[0] != &list[0] {
		t.Error("arrange copies the definitions")
	}
}
