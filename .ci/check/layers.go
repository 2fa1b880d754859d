package main

import (
	"fmt"
	"slices"
	"strings"
)

// policy is .ci/layers.txt: what a package may import.
type policy struct {
	layer   map[string]int      // of a package, by its path below the module; a higher one may import a lower one
	outside map[string][]string // of a top-level directory: the other directories and packages that it may import
}

// parsePolicy reads the rows of .ci/layers.txt: "DIRECTORY: OTHER..." and, below it, one layer a row.
func parsePolicy(rows []string) (policy, error) {
	p := policy{layer: map[string]int{}, outside: map[string][]string{}}
	directory := ""
	for number, row := range rows {
		if name, others, head := strings.Cut(row, ":"); head {
			directory = name
			p.outside[name] = strings.Fields(others)
			continue
		}
		for name := range strings.FieldsSeq(row) {
			path := strings.TrimSuffix(directory+"/"+name, "/.")
			if _, twice := p.layer[path]; twice || directory == "" {
				return p, fmt.Errorf("layers.txt: %s stands twice, or below no directory", path)
			}
			p.layer[path] = number
		}
	}
	return p, nil
}

// allows tells whether package from may import package to; test is true for an import of a test of from.
func (p policy) allows(from, to string, test bool) bool {
	if test && strings.HasPrefix(to, from+"/") && strings.HasSuffix(to, "test") {
		return true
	}
	if top(from) == top(to) {
		return p.layer[to] < p.layer[from]
	}
	return slices.Contains(p.outside[top(from)], top(to)) || slices.Contains(p.outside[top(from)], to)
}

// layers compares the imports of our packages with the policy, those of tests too.
func layers(t *tree) ([]string, error) {
	rows, err := table("layers.txt")
	if err != nil {
		return nil, err
	}
	allowed, err := parsePolicy(rows)
	if err != nil {
		return nil, err
	}
	var faults []string
	exist := map[string]bool{}
	for _, p := range t.packages {
		exist[p.path()] = true
		if _, known := allowed.layer[p.path()]; !known {
			faults = append(faults, fmt.Sprintf("%s is in no layer: give it one in .ci/layers.txt", p.path()))
			continue
		}
		faults = append(faults, forbidden(allowed, p)...)
	}
	for path := range allowed.layer {
		if !exist[path] {
			faults = append(faults, fmt.Sprintf(".ci/layers.txt names %s, which does not exist", path))
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults), nil
}

// forbidden lists the imports of p that the policy does not allow.
func forbidden(allowed policy, p pkg) []string {
	var faults []string
	for i, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
		for _, to := range imports {
			path, ours := strings.CutPrefix(to, modulePath+"/")
			if ours && path != p.path() && !allowed.allows(p.path(), path, i > 0) {
				faults = append(faults, fmt.Sprintf("%s imports %s: .ci/layers.txt allows only lower layers; move "+
					"what both need below them", p.path(), path))
			}
		}
	}
	return faults
}

// top is the top-level directory of a package.
func top(path string) string {
	directory, _, _ := strings.Cut(path, "/")
	return directory
}

// links compares what ./init links with .ci/pid1.txt: "module PATH" allows a module, "!PATH" forbids a package.
func links(*tree) ([]string, error) {
	rows, err := table("pid1.txt")
	if err != nil {
		return nil, err
	}
	out, err := golist("-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", "./init")
	if err != nil {
		return nil, err
	}
	var faults []string
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[module] = true
		if module != "" && module != modulePath && !slices.Contains(rows, "module "+module) {
			faults = append(faults, fmt.Sprintf("init links %s of module %s, which .ci/pid1.txt does not allow", path,
				module))
		}
		if slices.ContainsFunc(rows, func(r string) bool { return forbids(r, path) }) {
			faults = append(faults, fmt.Sprintf("init links %s; find who with: go mod why -m, or go list -deps", path))
		}
	}
	for _, r := range rows {
		if module, ok := strings.CutPrefix(r, "module "); ok && !seen[module] {
			faults = append(faults, fmt.Sprintf("module %s is in .ci/pid1.txt but init does not link it; drop the line",
				module))
		}
	}
	return faults, nil
}

func forbids(row, path string) bool {
	denied, ok := strings.CutPrefix(row, "!")
	return ok && (path == denied || strings.HasPrefix(path, denied+"/"))
}
