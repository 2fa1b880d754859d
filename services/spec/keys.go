package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// key is one line of the table of what a service file may say.
type key struct {
	name string
	set  func(*Spec, any) []Fault // Text and Hint only; the parser adds the place
}

// keys is the whole vocabulary of a service file.
var keys = [...]key{
	{"description", func(s *Spec, v any) []Fault { return text(v, &s.Description) }},
	{"command", func(s *Spec, v any) []Fault { return command(v, &s.Command) }},
	{"type", func(s *Spec, v any) []Fault { return choice(v, &s.Type, Simple, Notify, Oneshot) }},
	{"needs", func(s *Spec, v any) []Fault { return names(v, &s.Needs) }},
	{"wants", func(s *Spec, v any) []Fault { return names(v, &s.Wants) }},
	{"after", func(s *Spec, v any) []Fault { return names(v, &s.After) }},
	{"restart", func(s *Spec, v any) []Fault { return choice(v, &s.Restart, Always, OnFailure, Never) }},
	{"start-timeout", func(s *Spec, v any) []Fault { return duration(v, &s.StartTimeout) }},
	{"stop-timeout", func(s *Spec, v any) []Fault { return duration(v, &s.StopTimeout) }},
	{"oom-score", func(s *Spec, v any) []Fault { return number(v, &s.OOMScore, -1000, 1000) }},
	{"environment", func(s *Spec, v any) []Fault { return environment(v, &s.Environment) }},
	{"working-directory", func(s *Spec, v any) []Fault { return directory(v, &s.WorkingDirectory) }},
	{"variants", func(s *Spec, v any) []Fault { return variants(v, &s.Variants) }},
	{"log", func(s *Spec, v any) []Fault { return choice(v, &s.Log, Ring, Console) }},
	{"cgroup-delegate", func(s *Spec, v any) []Fault { return boolean(v, &s.CgroupDelegate) }},
	{"kill-mode", func(s *Spec, v any) []Fault { return choice(v, &s.KillMode, Group, Process) }},
}

func find(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

// suggest names the key that was meant, or all of them.
func suggest(name string) string {
	best, distance := "", 3
	for i := range keys {
		if d := edits(name, keys[i].name); d < distance {
			best, distance = keys[i].name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	all := make([]string, len(keys))
	for i := range keys {
		all[i] = keys[i].name
	}
	return "known keys: " + strings.Join(all, ", ")
}

// edits is the Levenshtein distance of two short strings; anything above 64 bytes is far away.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func wrong(want string, got any) []Fault {
	return []Fault{{Text: "is " + kind(got), Hint: "write " + want}}
}

func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any, []map[string]any:
		return "a table"
	}
	return "a date"
}

func text(v any, to *string) []Fault {
	s, ok := v.(string)
	if !ok {
		return wrong("a string in quotes", v)
	}
	if strings.ContainsAny(s, "\x00\n\r") {
		return []Fault{{Text: "has a line break or a NUL", Hint: "keep it on one line"}}
	}
	*to = s
	return nil
}

func choice[T ~string](v any, to *T, of ...T) []Fault {
	s, ok := v.(string)
	if ok && slices.Contains(of, T(s)) {
		*to = T(s)
		return nil
	}
	quoted := make([]string, len(of))
	for i, o := range of {
		quoted[i] = fmt.Sprintf("%q", string(o))
	}
	hint := "one of " + strings.Join(quoted, ", ")
	if !ok {
		return wrong(hint, v)
	}
	return []Fault{{Text: fmt.Sprintf("%q is not known", s), Hint: hint}}
}

func list(v any, check func(string) *Fault) ([]string, []Fault) {
	array, ok := v.([]any)
	if !ok {
		return nil, wrong(`an array of strings, ["a", "b"]`, v)
	}
	var (
		out    = make([]string, 0, len(array))
		faults []Fault
	)
	for i, e := range array {
		s, ok := e.(string)
		if !ok {
			faults = append(faults, Fault{Text: fmt.Sprintf("entry %d is %s", i+1, kind(e)), Hint: "write a string in quotes"})
			continue
		}
		if f := check(s); f != nil {
			faults = append(faults, *f)
			continue
		}
		out = append(out, s)
	}
	return out, faults
}

func names(v any, to *[]string) (faults []Fault) {
	seen := map[string]bool{}
	*to, faults = list(v, func(s string) *Fault {
		switch {
		case !ValidName(s):
			return &Fault{Text: fmt.Sprintf("%q is no service name", s), Hint: "a-z, 0-9, - and _, at most 64"}
		case seen[s]:
			return &Fault{Text: fmt.Sprintf("%q is listed twice", s), Hint: "remove one"}
		}
		seen[s] = true
		return nil
	})
	return faults
}

func command(v any, to *[]string) (faults []Fault) {
	*to, faults = list(v, func(s string) *Fault {
		if strings.Contains(s, "\x00") {
			return &Fault{Text: "has a NUL byte", Hint: "remove it"}
		}
		return nil
	})
	if len(faults) > 0 {
		return faults
	}
	if len(*to) == 0 {
		return []Fault{{Text: "is empty", Hint: `write ["/usr/bin/program", "argument"]`}}
	}
	if !path.IsAbs((*to)[0]) {
		return []Fault{{Text: fmt.Sprintf("program %q is no absolute path", (*to)[0]), Hint: "no PATH is searched: write /usr/bin/" + path.Base((*to)[0])}}
	}
	return nil
}

func variants(v any, to *[]string) (faults []Fault) {
	known := []string{"production", "development", "standalone"}
	*to, faults = list(v, func(s string) *Fault {
		if !slices.Contains(known, s) {
			return &Fault{Text: fmt.Sprintf("%q is no variant", s), Hint: "one of " + strings.Join(known, ", ")}
		}
		return nil
	})
	return faults
}

func duration(v any, to *time.Duration) []Fault {
	s, ok := v.(string)
	if !ok {
		return wrong(`a duration in quotes, "10s" or "1m30s"`, v)
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > 24*time.Hour {
		return []Fault{{Text: fmt.Sprintf("%q is no duration from 0s to 24h", s), Hint: `write "10s" or "1m30s"`}}
	}
	*to = d
	return nil
}

func number(v any, to *int, low, high int64) []Fault {
	n, ok := v.(int64)
	if !ok {
		return wrong("a whole number", v)
	}
	if n < low || n > high {
		return []Fault{{Text: fmt.Sprintf("%d is out of range", n), Hint: fmt.Sprintf("from %d to %d", low, high)}}
	}
	*to = int(n)
	return nil
}

func boolean(v any, to *bool) []Fault {
	b, ok := v.(bool)
	if !ok {
		return wrong("true or false", v)
	}
	*to = b
	return nil
}

func directory(v any, to *string) []Fault {
	var s string
	if f := text(v, &s); f != nil {
		return f
	}
	if !path.IsAbs(s) {
		return []Fault{{Text: fmt.Sprintf("%q is no absolute path", s), Hint: "begin it with /"}}
	}
	*to = path.Clean(s)
	return nil
}

func environment(v any, to *map[string]string) []Fault {
	table, ok := v.(map[string]any)
	if !ok {
		return wrong(`a table, [environment] with NAME = "value" lines`, v)
	}
	var faults []Fault
	*to = make(map[string]string, len(table))
	for name, raw := range table {
		s, ok := raw.(string)
		switch {
		case !validVariable(name):
			faults = append(faults, Fault{Text: fmt.Sprintf("%q is no variable name", name), Hint: "letters, digits and _, no digit first"})
		case !ok:
			faults = append(faults, Fault{Text: fmt.Sprintf("%s is %s", name, kind(raw)), Hint: "write a string in quotes"})
		case strings.Contains(s, "\x00"):
			faults = append(faults, Fault{Text: name + " has a NUL byte", Hint: "remove it"})
		default:
			(*to)[name] = s
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return strings.Compare(a.Text, b.Text) })
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
