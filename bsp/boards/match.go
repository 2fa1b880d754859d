package boards

import (
	"path"
	"strings"
)

// Match reports whether the patterns alone select the module at modulePath (below kernel/, without .ko) for the root.
func (m Modules) Match(modulePath string) bool {
	return matchAny(m.Include, modulePath) && !matchAny(m.Exclude, modulePath)
}

// Compressed reports whether the root has this module compressed. modulePath is as for Match.
func (m Modules) Compressed(modulePath string) bool {
	return len(m.Plain) > 0 && !matchAny(m.Plain, modulePath)
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		for _, one := range braces(p) {
			if glob(strings.Split(one, "/"), strings.Split(name, "/")) {
				return true
			}
		}
	}
	return false
}

// Unused lists the include patterns that match none of paths: such a pattern is a mistake, or was written for another
// kernel.
func (m Modules) Unused(paths []string) []string {
	var unused []string
	for _, p := range m.Include {
		for _, one := range braces(p) {
			if !matchesOne(one, paths) {
				unused = append(unused, one)
			}
		}
	}
	return unused
}

func matchesOne(pattern string, paths []string) bool {
	for _, name := range paths {
		if matchAny([]string{pattern}, name) {
			return true
		}
	}
	return false
}

// braces expands the alternatives of a pattern: a{b,c}d gives abd and acd. An open brace without its end is literal.
func braces(pattern string) []string {
	head, rest, found := strings.Cut(pattern, "{")
	inner, tail, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return []string{pattern}
	}
	var all []string
	for _, end := range braces(tail) {
		for _, choice := range strings.Split(inner, ",") {
			all = append(all, head+choice+end)
		}
	}
	return all
}

// glob matches directory by directory; ** matches any number of directories, also none.
func glob(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for i := range len(name) + 1 {
				if glob(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}
