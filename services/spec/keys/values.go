package keys

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/mounts/disk"
)

// The bounds of durations. A standing value is never replaced by nothing, hence shortest.
const (
	shortest = time.Millisecond
	second   = time.Second
	day      = 24 * time.Hour
	year     = 365 * day
)

func fault(text, hint string) []Fault { return []Fault{{Text: text, Hint: hint}} }

func wrong(want string, got any) []Fault { return fault("is "+kind(got), "write "+want) }

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
		return fault("has a line break or a NUL", "keep it on one line")
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
		quoted[i] = strconv.Quote(string(o))
	}
	hint := "one of " + strings.Join(quoted, ", ")
	if !ok {
		return wrong(hint, v)
	}
	return fault(fmt.Sprintf("%q is not known", s), hint)
}

// list reads an array of strings, each through check. An empty one gives nil.
func list(v any, check func(string) *Fault) ([]string, []Fault) {
	array, ok := v.([]any)
	if !ok {
		return nil, wrong(`an array of strings, ["a", "b"]`, v)
	}
	var (
		out    []string
		faults []Fault
	)
	for i, e := range array {
		s, ok := e.(string)
		if !ok {
			faults = append(faults, Fault{Text: fmt.Sprintf("entry %d is %s", i+1, kind(e)),
				Hint: "write a string in quotes"})
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

// convert is list with each entry brought to its one form, which may stand there only once.
func convert[T comparable](v any, one func(string) (T, *Fault)) ([]T, []Fault) {
	var out []T
	seen := map[T]bool{}
	_, faults := list(v, func(s string) *Fault {
		t, f := one(s)
		switch {
		case f != nil:
			return f
		case seen[t]:
			return &Fault{Text: fmt.Sprintf("%q is listed twice", s), Hint: "remove one"}
		}
		seen[t] = true
		out = append(out, t)
		return nil
	})
	return out, faults
}

func names(v any, to *[]string) (faults []Fault) {
	*to, faults = convert(v, func(s string) (string, *Fault) {
		if !ValidName(s) {
			return "", &Fault{Text: fmt.Sprintf("%q is no service name", s), Hint: "a-z, 0-9, - and _, at most 64"}
		}
		return s, nil
	})
	return faults
}

func variants(v any, to *[]string) (faults []Fault) {
	known := []string{"production", "development", "standalone", "recovery"}
	*to, faults = list(v, func(s string) *Fault {
		if !slices.Contains(known, s) {
			return &Fault{Text: fmt.Sprintf("%q is no variant", s), Hint: "one of " + strings.Join(known, ", ")}
		}
		return nil
	})
	return faults
}

func duration(v any, to *time.Duration, low, high time.Duration) []Fault {
	s, ok := v.(string)
	if !ok {
		return wrong(`a duration in quotes, "10s" or "1m30s"`, v)
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < low || d > high {
		return fault(fmt.Sprintf("%q is no duration from %s to %s", s, Short(low), Short(high)),
			`write "10s" or "1m30s"`)
	}
	*to = d
	return nil
}

// period is the time from one start to the next; a shorter one than a second is a spin.
func period(v any, to *time.Duration) []Fault {
	var d time.Duration
	if f := duration(v, &d, 0, year); f != nil {
		return f
	}
	if d != 0 && d < second {
		return fault(fmt.Sprintf("%q is shorter than a second", v), `write "1s" or more`)
	}
	*to = d
	return nil
}

// Short writes a duration without the zeros that time.Duration puts behind it.
func Short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func number(v any, to *int, low, high int64) []Fault {
	n, ok := v.(int64)
	if !ok {
		return wrong("a whole number", v)
	}
	if n < low || n > high {
		return fault(fmt.Sprintf("%d is out of range", n), fmt.Sprintf("from %d to %d", low, high))
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
		return fault(fmt.Sprintf("%q is no absolute path", s), "begin it with /")
	}
	*to = path.Clean(s)
	return nil
}

// paths reads absolute paths; with lax a "-" in front lets a missing one pass.
func paths(v any, to *[]string, lax bool) (faults []Fault) {
	*to, faults = convert(v, func(s string) (string, *Fault) {
		rest, dash := s, ""
		if lax && strings.HasPrefix(s, "-") {
			rest, dash = s[1:], "-"
		}
		if f := directory(rest, &rest); f != nil {
			return "", &f[0]
		}
		if rest == "/" {
			return "", &Fault{Text: `"/" is everything`, Hint: "name what is below it"}
		}
		return dash + rest, nil
	})
	return faults
}

// size reads bytes: a whole number, or a string that disk.ParseBytes knows.
func size(v any, to *int64) []Fault {
	const hint = `"64M", "1G" or a whole number of bytes`
	switch v := v.(type) {
	case int64:
		if v < 0 {
			return fault(fmt.Sprintf("%d is out of range", v), hint)
		}
		*to = v
		return nil
	case string:
		n, err := disk.ParseBytes(v)
		if err != nil {
			return fault(fmt.Sprintf("%q is no size", v), hint)
		}
		*to = int64(n)
		return nil
	}
	return wrong(hint, v)
}

// ValidName reports whether name can be a service's name, and so a file's, a cgroup's and a pipe's.
func ValidName(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '-' || name[0] == '_' {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
