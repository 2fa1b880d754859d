// Package precondition defines what must hold on the device so that a service starts. It judges none of them. Read
// Condition first.
package precondition

// Kind says what a condition looks at.
type Kind string

// The kinds of condition.
const (
	Path    Kind = "path"    // condition-path: the path exists
	Config  Kind = "config"  // condition-config: KEY is in config.json, or KEY=VALUE
	Cmdline Kind = "cmdline" // condition-cmdline: WORD or NAME=VALUE is on the kernel command line
	Board   Kind = "board"   // condition-board: the device is this board
)

// Condition is one thing that must hold when a service starts. Written as "value", or "!value" for
// the opposite.
type Condition struct {
	Kind  Kind
	Not   bool
	Value string
}

// String writes the condition as a service file does: condition-path "!/etc/off".
func (c Condition) String() string { return "condition-" + string(c.Kind) + ` "` + c.Said() + `"` }

// Said returns the value as a service file says it.
func (c Condition) Said() string {
	if c.Not {
		return "!" + c.Value
	}
	return c.Value
}
