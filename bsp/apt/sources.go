package apt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debianSuites are the suites that identify a source as a mirror of Debian's main archive; the pools of all suites are
// on the same mirror.
var debianSuites = []string{
	"stable", "oldstable", "testing", "unstable", "sid", "bullseye", "bookworm", "trixie", "forky", "duke",
}

// hostMirrors lists the Debian mirrors of the host's own sources, in their order.
func hostMirrors(etc string) ([]string, error) {
	if etc == "" {
		etc = "/etc/apt"
	}
	var all []string
	files := []string{filepath.Join(etc, "sources.list")}
	more, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, fmt.Errorf("list package sources: %w", err)
	}
	for _, file := range append(files, more...) {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read package sources: %w", err)
		}
		switch filepath.Ext(file) {
		case ".list":
			all = append(all, lineMirrors(string(text))...)
		case ".sources":
			all = append(all, stanzaMirrors(string(text))...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == 0 {
		return nil, fmt.Errorf("find a Debian mirror: none in %s: name one with --mirror URI", etc)
	}
	return all, nil
}

// lineMirrors reads the one-line format: deb [options] URI SUITE COMPONENT...
func lineMirrors(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, found := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !found {
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			_, rest, _ = strings.Cut(rest, "]")
		}
		if f := strings.Fields(rest); len(f) > 2 && isDebian(f[1:2], f[2:]) {
			all = append(all, f[0])
		}
	}
	return all
}

// stanzaMirrors reads the deb822 format.
func stanzaMirrors(text string) []string {
	var all []string
	for _, s := range parseStanzas(text) {
		if !slices.Contains(strings.Fields(s["Types"]), "deb") || strings.EqualFold(s["Enabled"], "no") {
			continue
		}
		if isDebian(strings.Fields(s["Suites"]), strings.Fields(s["Components"])) {
			all = append(all, strings.Fields(s["URIs"])...)
		}
	}
	return all
}

func isDebian(suites, components []string) bool {
	known := slices.ContainsFunc(suites, func(s string) bool { return slices.Contains(debianSuites, s) })
	return known && slices.Contains(components, "main")
}

// parseStanzas reads Debian's control format: fields of one stanza, stanzas apart by blank lines, # comments.
func parseStanzas(text string) []map[string]string {
	var all []map[string]string
	current, last := map[string]string{}, ""
	flush := func() {
		if len(current) > 0 {
			all = append(all, current)
		}
		current, last = map[string]string{}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				current[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			last = name
			current[name] = strings.TrimSpace(value)
		}
	}
	flush()
	return all
}
