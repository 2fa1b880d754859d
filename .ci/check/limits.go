package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The limits of docs/STYLE.md, section 2, without tests.
const (
	mostPackageLines = 1500
	mostFileLines    = 500
	mostExported     = 25
)

// packageLimits holds every package to its number of lines and of exported names. Generated files (z_*.go) do not
// count.
func packageLimits(t *tree) ([]string, error) {
	exceptions, err := readLimits()
	if err != nil {
		return nil, err
	}
	var faults []string
	for _, p := range t.packages {
		lines, names := 0, map[string]bool{}
		for _, name := range p.GoFiles {
			if strings.HasPrefix(name, "z_") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			count := strings.Count(string(text), "\n")
			lines += count
			if count > mostFileLines {
				faults = append(faults, fmt.Sprintf("%s has %d lines: split files at %d", filepath.Join(p.path(), name),
					count, mostFileLines))
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			exportedIn(f, names)
		}
		limit, over := exceptions[p.path()]
		if !over {
			limit = packageLimit{mostPackageLines, mostExported}
		} else if lines <= mostPackageLines && len(names) <= mostExported {
			faults = append(faults, fmt.Sprintf("%s keeps to the limits now: drop its row of .ci/limits.txt", p.path()))
		}
		if lines > limit.lines {
			faults = append(faults, fmt.Sprintf("%s has %d lines, its limit is %d: split the package", p.path(), lines,
				limit.lines))
		}
		if len(names) > limit.names {
			faults = append(faults, fmt.Sprintf("%s exports %d names, its limit is %d: split the package", p.path(),
				len(names), limit.names))
		}
	}
	return faults, nil
}

// packageLimit is what one package may have.
type packageLimit struct{ lines, names int }

// readLimits reads the packages that may be larger, .ci/limits.txt.
func readLimits() (map[string]packageLimit, error) {
	rows, err := table("limits.txt")
	if err != nil {
		return nil, err
	}
	limits := map[string]packageLimit{}
	for _, row := range rows {
		var path string
		var l packageLimit
		if _, err := fmt.Sscan(row, &path, &l.lines, &l.names); err != nil {
			return nil, fmt.Errorf("limits.txt: %q is not PACKAGE LINES NAMES: %w", row, err)
		}
		limits[path] = l
	}
	return limits, nil
}

// exportedIn adds the exported types, functions, and groups of constants and variables of f. A group counts as one
// name: it is one table that is read as a whole. Methods and fields belong to their type.
func exportedIn(f *ast.File, names map[string]bool) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.IsExported() {
				names[d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						names[s.Name.Name] = true
					}
				case *ast.ValueSpec:
					first := d.Specs[0].(*ast.ValueSpec).Names[0].Name
					if slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
						names["group of "+first] = true
					}
				}
			}
		}
	}
}

// logMethods are those of a logger that take attributes, after a message or (With) alone.
var logMethods = strings.Fields("Debug Info Warn Error Log LogAttrs DebugContext InfoContext WarnContext " +
	"ErrorContext With")

// attributeRow is a row of the attributes' table in docs/NAMES.md: one or several names between backquotes in its first
// column.
var attributeRow = regexp.MustCompile("(?m)^\\| ((?:`[a-z_-]+`(?:, )?)+) \\|")
var attributeName = regexp.MustCompile("`([a-z_-]+)`")

// logAttributes wants each attribute of a log line in the table of docs/NAMES.md.
func logAttributes(t *tree) ([]string, error) {
	doc, err := os.ReadFile("docs/NAMES.md")
	if err != nil {
		return nil, err
	}
	_, section, _ := strings.Cut(string(doc), "## Attributes of log lines")
	known := map[string]bool{}
	for _, row := range attributeRow.FindAllStringSubmatch(section, -1) {
		for _, name := range attributeName.FindAllStringSubmatch(row[1], -1) {
			known[name[1]] = true
		}
	}
	var faults []string
	for _, p := range t.packages {
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				for _, attribute := range attributesOf(call) {
					if !known[attribute] {
						faults = append(faults,
							fmt.Sprintf("%s:%d logs attribute %q, which docs/NAMES.md does not list",
								filepath.Join(p.path(), name), set.Position(call.Pos()).Line, attribute))
					}
				}
				return true
			})
		}
	}
	return faults, nil
}

// attributesOf returns the constant attribute names of a call of a logger: log.Warn("message", "name", value, ...).
func attributesOf(call *ast.CallExpr) []string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(logMethods, sel.Sel.Name) || !isLogger(sel.X) {
		return nil
	}
	args := call.Args
	for sel.Sel.Name != "With" && len(args) > 0 { // up to and with the message
		_, constant := args[0].(*ast.BasicLit)
		args = args[1:]
		if constant {
			break
		}
	}
	var names []string
	for i := 0; i < len(args); i += 2 {
		if lit, ok := args[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			names = append(names, strings.Trim(lit.Value, "\"`"))
		}
	}
	return names
}

// isLogger goes by the name that all our loggers have.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "log" || x.Name == "slog"
	case *ast.SelectorExpr:
		return x.Sel.Name == "log" || x.Sel.Name == "Log"
	}
	return false
}
