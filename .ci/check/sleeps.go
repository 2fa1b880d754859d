package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sleepMark begins the comment, on the line of a sleep, that says why it must be one.
const sleepMark = "// sleep: "

// sleeps finds what waits for a time, which is a guess, where it could wait for an event. In a bubble of
// testing/synctest a sleep costs nothing and guesses nothing: everybody else has come to rest when it ends.
func sleeps(t *tree) ([]string, error) {
	var faults []string
	for _, p := range t.packages {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			lines, err := sleepLines(text)
			if err != nil {
				return nil, err
			}
			for _, line := range lines {
				faults = append(faults, fmt.Sprintf("%s:%d sleeps: wait for what must happen (testenv.WaitFor, "+
					"Receive, Never), or say why not with %q",
					filepath.Join(p.path(), name), line, sleepMark+"..."))
			}
		}
	}
	return faults, nil
}

// sleepLines lists the lines with a sleep outside of a bubble that has no reason: time.Sleep, or <-time.After as a
// statement.
func sleepLines(text []byte) ([]int, error) {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "", text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	reasons := map[int]bool{}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if reason, marked := strings.CutPrefix(c.Text, sleepMark); marked && strings.TrimSpace(reason) != "" {
				reasons[set.Position(c.Pos()).Line] = true
			}
		}
	}
	var lines []int
	selected := map[ast.Node]bool{} // one of several that are waited for
	ast.Inspect(f, func(n ast.Node) bool {
		if isCall(n, "synctest", "Test") {
			return false
		}
		if c, ok := n.(*ast.CommClause); ok && c.Comm != nil {
			selected[c.Comm] = true
		}
		if isSleep(n) && !selected[n] && !reasons[set.Position(n.Pos()).Line] {
			lines = append(lines, set.Position(n.Pos()).Line)
		}
		return true
	})
	return lines, nil
}

func isSleep(n ast.Node) bool {
	s, statement := n.(*ast.ExprStmt)
	if !statement {
		return isCall(n, "time", "Sleep") // also in a for statement or a go statement
	}
	receive, ok := s.X.(*ast.UnaryExpr)
	return ok && receive.Op == token.ARROW && isCall(receive.X, "time", "After")
}

func isCall(n ast.Node, pkg, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || f.Sel.Name != name {
		return false
	}
	from, ok := f.X.(*ast.Ident)
	return ok && from.Name == pkg
}
