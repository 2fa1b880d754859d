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

// A path of ours in prose: one of our directories, then at least one more element.
var pathWord = regexp.MustCompile(
	"(?:^|[\\s`(\"'])((?:\\.ci|docs|init|services|mounts|net|containers|bsp|images)/[A-Za-z0-9_./-]*[A-Za-z0-9_])")

// A symbol of ours in prose: `package.Name` or [package.Name].
var symbolWord = regexp.MustCompile(
	"[`\\[]([a-z][a-z0-9]*)\\.([A-Z][A-Za-z0-9]*)(?:\\.[A-Z][A-Za-z0-9]*)?(?:\\(\\))?[`\\]]")

// deadNames looks at comments of our Go files and at every Markdown file: a file, directory or exported symbol of
// ours that is named there must exist.
func deadNames(t *tree) ([]string, error) {
	symbols, err := exported(t)
	if err != nil {
		return nil, err
	}
	std, err := golist("std") // net/http is no file of ours
	if err != nil {
		return nil, err
	}
	standard := strings.Fields(std)
	texts, err := prose(t)
	if err != nil {
		return nil, err
	}
	var faults []string
	for _, file := range slices.Sorted(mapsKeys(texts)) {
		for i, line := range strings.Split(texts[file], "\n") {
			for _, word := range deadIn(line, filepath.Dir(file), symbols) {
				if slices.Contains(standard, word) {
					continue
				}
				faults = append(faults, fmt.Sprintf("%s:%d names %s, which does not exist", file, i+1, word))
			}
		}
	}
	return faults, nil
}

func mapsKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func deadIn(line, dir string, symbols map[string]map[string]bool) []string {
	var dead []string
	for _, m := range pathWord.FindAllStringSubmatch(line, -1) {
		if !exists(m[1]) && !exists(filepath.Join(dir, m[1])) {
			dead = append(dead, m[1])
		}
	}
	for _, m := range symbolWord.FindAllStringSubmatch(line, -1) {
		if names, ours := symbols[m[1]]; ours && !names[m[2]] {
			dead = append(dead, m[1]+"."+m[2])
		}
	}
	return dead
}

func exists(path string) bool {
	if _, err := os.Stat(path); err == nil {
		return true
	}
	found, _ := filepath.Glob(path) // a path may name several files
	return len(found) > 0
}

// exported maps each package name of ours to its exported top-level names.
func exported(t *tree) (map[string]map[string]bool, error) {
	all := map[string]map[string]bool{}
	for _, p := range t.packages {
		names := map[string]bool{}
		for _, file := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, d := range f.Decls {
				declared(d, names)
			}
		}
		all[p.Name] = names
	}
	return all, nil
}

func declared(d ast.Decl, names map[string]bool) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		names[d.Name.Name] = true
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names[s.Name.Name] = true
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names[n.Name] = true
				}
			}
		}
	}
}

// prose gathers Markdown files whole and Go files with everything but their comments blanked, so that line
// numbers stay true.
func prose(t *tree) (map[string]string, error) {
	texts := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == ".git" || slices.Contains(ignored, path) || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		switch filepath.Ext(path) {
		case ".md":
			text, err := os.ReadFile(path)
			texts[path] = string(text)
			return err
		case ".go":
			texts[path], err = comments(path)
			return err
		}
		return nil
	})
	return texts, err
}

func comments(path string) (string, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	line := 1
	for _, group := range f.Comments {
		for _, c := range group.List {
			for at := set.Position(c.Pos()).Line; line < at; line++ {
				b.WriteByte('\n')
			}
			b.WriteString(strings.TrimPrefix(c.Text, "//"))
			line += strings.Count(c.Text, "\n")
		}
	}
	return b.String(), nil
}
