// Package precondition defines what must hold on the device so that a service starts. It looks at no device. Read
// Condition first.
package precondition

import "strings"

// Kind says what a condition looks at.
type Kind string

// The kinds of condition.
const (
	Path    Kind = "path"    // condition-path: the path exists
	Config  Kind = "config"  // condition-config: KEY is in config.json, or KEY=VALUE; or one of several
	Cmdline Kind = "cmdline" // condition-cmdline: WORD or NAME=VALUE is on the kernel command line
	Board   Kind = "board"   // condition-board: the device is this board
	Device  Kind = "device"  // condition-device: a device is there whose modalias matches this pattern
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

// Setting is a key of config.json, which must have a value, or this one if Valued.
type Setting struct {
	Key, Value string
	Valued     bool
}

// Settings returns what a condition of the kind Config names: one of them must be so.
func (c Condition) Settings() []Setting {
	var all []Setting
	for one := range strings.SplitSeq(c.Value, "|") {
		key, value, valued := strings.Cut(one, "=")
		all = append(all, Setting{key, value, valued})
	}
	return all
}

// In reports whether the setting is so in a configuration, whose values have their keys with dots.
func (s Setting) In(values map[string]string) bool {
	value, there := values[s.Key]
	return there && (!s.Valued || value == s.Value)
}
