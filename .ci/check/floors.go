package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const floorTable = "floors.txt"

// below holds the floors of docs/DESIGN.md: which folders a folder's packages may import at all.
// The containers floor may use net's netlink and nft packages only; the edge table shows which.
var below = map[string][]string{
	"mounts":     {"mounts"},
	"services":   {"services", "mounts"},
	"bsp":        {"bsp", "mounts"},
	"net":        {"net", "services", "mounts"},
	"containers": {"containers", "net", "services", "mounts"},
	"images":     {"images", "bsp", "mounts", "services"},
	"init":       {"init", "mounts", "services", "bsp", "net"},
}

// edges lists every import of ours by ours, as "from -> to". Tests count: a test may not reach up either.
func edges(t *tree) []string {
	var rows []string
	for _, p := range t.packages {
		for _, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for _, to := range imports {
				if room, ours := strings.CutPrefix(to, modulePath+"/"); ours && room != p.room() {
					rows = append(rows, p.room()+" -> "+room)
				}
			}
		}
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

func floors(t *tree) ([]string, error) {
	allowed, err := table(floorTable)
	if err != nil {
		return nil, err
	}
	used := edges(t)
	var faults []string
	for _, e := range used {
		from, to, _ := strings.Cut(e, " -> ")
		if !slices.Contains(below[top(from)], top(to)) {
			faults = append(faults, fmt.Sprintf("%s reaches up or sideways: move what they share to a floor below both", e))
		} else if !slices.Contains(allowed, e) {
			faults = append(faults, fmt.Sprintf("%s is not in .ci/%s; if the edge is wanted: go run ./.ci/check -update", e, floorTable))
		}
	}
	for _, e := range allowed {
		if !slices.Contains(used, e) {
			faults = append(faults, fmt.Sprintf("%s is in .ci/%s but no longer used; drop the line", e, floorTable))
		}
	}
	return faults, nil
}

func top(room string) string {
	folder, _, _ := strings.Cut(room, "/")
	return folder
}

func writeFloors(t *tree) error {
	head := "# Every import of one package of ours by another; make check keeps this list and the code equal.\n" +
		"# Which folder may reach which is fixed in docs/DESIGN.md; a new line here is read in review.\n"
	text := head + strings.Join(edges(t), "\n") + "\n"
	return os.WriteFile(filepath.Join(".ci", floorTable), []byte(text), 0o644)
}

// links compares what ./init links with the table: "module PATH" allows a module, "!PATH" forbids a package.
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
			faults = append(faults, fmt.Sprintf("init links %s of module %s, which .ci/pid1.txt does not allow", path, module))
		}
		if slices.ContainsFunc(rows, func(r string) bool { return forbids(r, path) }) {
			faults = append(faults, fmt.Sprintf("init links %s; find who with: go mod why -m, or go list -deps", path))
		}
	}
	for _, r := range rows {
		if module, ok := strings.CutPrefix(r, "module "); ok && !seen[module] {
			faults = append(faults, fmt.Sprintf("module %s is in .ci/pid1.txt but init does not link it; drop the line", module))
		}
	}
	return faults, nil
}

func forbids(row, path string) bool {
	denied, ok := strings.CutPrefix(row, "!")
	return ok && (path == denied || strings.HasPrefix(path, denied+"/"))
}
