package bootreport

import (
	"fmt"
	"strings"
)

// Severity is what the failure of a step means for the boot.
type Severity string

// The severities.
const (
	Fatal     Severity = "fatal"     // the boot cannot continue
	Degraded  Severity = "degraded"  // the boot continues without it, and a person should know
	Ignorable Severity = "ignorable" // the boot continues, and nobody needs to act
)

// PlannedStep is one step of the boot as it would be carried out.
type PlannedStep struct {
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	Does     []string `json:"does"`
}

// Print writes a plan for people.
func Print(plan []PlannedStep) string {
	var b strings.Builder
	for i, s := range plan {
		fmt.Fprintf(&b, "%d/%d %s (%s)\n", i+1, len(plan), s.Name, s.Severity)
		for _, line := range s.Does {
			fmt.Fprintf(&b, "\t%s\n", line)
		}
	}
	return b.String()
}
