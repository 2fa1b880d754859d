package keys

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// command reads a program and its arguments. An optional one is unsaid by an empty array.
func command(v any, to *[]string, optional bool) []Fault {
	out, faults := list(v, func(s string) *Fault {
		if strings.Contains(s, "\x00") {
			return &Fault{Text: "has a NUL byte", Hint: "remove it"}
		}
		return nil
	})
	switch {
	case len(faults) > 0:
		return faults
	case len(out) == 0 && !optional:
		return fault("is empty", `write ["/usr/bin/program", "argument"]`)
	case len(out) > 0 && !path.IsAbs(out[0]):
		return fault(fmt.Sprintf("program %q is no absolute path", out[0]),
			"no PATH is searched: write /usr/bin/"+path.Base(out[0]))
	}
	*to = out
	return nil
}

// environment adds to what a lower layer said, name by name.
func environment(v any, to *map[string]string) []Fault {
	table, ok := v.(map[string]any)
	if !ok {
		return wrong(`a table, [environment] with NAME = "value" lines`, v)
	}
	var faults []Fault
	out := make(map[string]string, len(table))
	maps.Copy(out, *to)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		s, ok := table[name].(string)
		switch {
		case !validVariable(name):
			faults = append(faults, Fault{Key: name, Text: "is no variable name",
				Hint: "letters, digits and _, no digit first"})
		case reserved(name):
			faults = append(faults, Fault{Key: name, Text: "is set by PID 1", Hint: "remove it"})
		case !ok:
			faults = append(faults, Fault{Key: name, Text: "is " + kind(table[name]), Hint: "write a string in quotes"})
		case strings.Contains(s, "\x00"):
			faults = append(faults, Fault{Key: name, Text: "has a NUL byte", Hint: "remove it"})
		default:
			out[name] = s
		}
	}
	if len(out) > 0 {
		*to = out
	}
	return faults
}

func validVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// reserved reports the variables of the protocols between PID 1 and a service.
func reserved(name string) bool {
	switch name {
	case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID",
		"RESINOS_LAUNCH":
		return true
	}
	return false
}

// account reads the name or number of a user or group. Whether there is one, nobody asks here.
func account(v any, to *string) []Fault {
	var s string
	if f := text(v, &s); f != nil {
		if _, number := v.(int64); number {
			f[0].Hint = fmt.Sprintf(`write "%d" in quotes`, v)
		}
		return f
	}
	if s != "" && !validAccount(s) {
		return fault(fmt.Sprintf("%q is no name or number of a user or group", s), `write "daemon" or "1000"`)
	}
	*to = s
	return nil
}

func accounts(v any, to *[]string) (faults []Fault) {
	*to, faults = convert(v, func(s string) (string, *Fault) {
		if !validAccount(s) {
			return "", &Fault{Text: fmt.Sprintf("%q is no name or number of a group", s), Hint: `write "video" or "44"`}
		}
		return s, nil
	})
	return faults
}

func validAccount(s string) bool {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return n != 1<<32-1 // (uid_t)-1 means "unchanged" to the kernel
	}
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '-' && c != '.' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// signal reads a name with or without SIG, in either case; an empty one is no signal.
func signal(v any, to *string) []Fault {
	const hint = `a name as "TERM", "INT", "QUIT" or "USR1"`
	s, ok := v.(string)
	if !ok {
		return wrong(hint, v)
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if s != "" && unix.SignalNum("SIG"+name) == 0 {
		return fault(fmt.Sprintf("%q is no signal", s), hint)
	}
	*to = name
	return nil
}

// conditions replaces those of one kind.
func conditions(v any, s *spec.Spec, of precondition.Kind) []Fault {
	out, faults := convert(v, func(text string) (precondition.Condition, *Fault) {
		value, not := strings.CutPrefix(text, "!")
		c := precondition.Condition{Kind: of, Not: not, Value: value}
		f := checkCondition(&c, text)
		return c, f
	})
	for _, c := range s.Conditions {
		if c.Kind != of {
			out = append(out, c)
		}
	}
	s.Conditions = out
	return faults
}

func checkCondition(c *precondition.Condition, said string) *Fault {
	if c.Value == "" || strings.HasPrefix(c.Value, "!") || strings.ContainsAny(c.Value, "\x00\n\r") {
		return &Fault{Text: fmt.Sprintf("%q is no condition", said),
			Hint: `write "value", or "!value" for the opposite`}
	}
	switch c.Kind {
	case precondition.Path:
		if f := directory(c.Value, &c.Value); f != nil {
			return &f[0]
		}
	case precondition.Config:
		for _, one := range c.Settings() {
			if one.Key == "" {
				return &Fault{Text: fmt.Sprintf("%q names no key", c.Value),
					Hint: `write "hostname", "developmentMode=true", or both with | between them if one is enough`}
			}
		}
	case precondition.Device:
		if _, err := path.Match(c.Value, ""); err != nil || strings.IndexByte(c.Value, ':') < 1 {
			return &Fault{Text: fmt.Sprintf("%q is no pattern of a modalias", c.Value), Hint: `write "usb:v046D*"`}
		}
	case precondition.Cmdline, precondition.Board:
		if strings.ContainsAny(c.Value, " \t") || strings.HasPrefix(c.Value, "=") {
			return &Fault{Text: fmt.Sprintf("%q is not one word", c.Value), Hint: "write one entry a word"}
		}
	}
	return nil
}
