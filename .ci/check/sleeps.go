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

// sleepLines lists the lines with a sleep outside of a bubble that has no reason: time.Sleep, or a receive from
// time.After that is not one of several cases of a select.
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
	selected := map[ast.Expr]bool{} // one of several that are waited for
	ast.Inspect(f, func(n ast.Node) bool {
		if isCall(n, "synctest", "Test") {
			return false
		}
		if s, ok := n.(*ast.SelectStmt); ok && len(s.Body.List) > 1 {
			for _, c := range s.Body.List {
				selected[received(c.(*ast.CommClause).Comm)] = true
			}
		}
		e, ok := n.(ast.Expr)
		if ok && isSleep(e) && !selected[e] && !reasons[set.Position(n.Pos()).Line] {
			lines = append(lines, set.Position(n.Pos()).Line)
		}
		return true
	})
	return lines, nil
}

// received is what a case of a select waits for; nil if it sends, or is the default.
func received(s ast.Stmt) ast.Expr {
	switch s := s.(type) {
	case *ast.ExprStmt:
		return s.X
	case *ast.AssignStmt:
		return s.Rhs[0]
	}
	return nil
}

func isSleep(e ast.Expr) bool {
	receive, ok := e.(*ast.UnaryExpr)
	return isCall(e, "time", "Sleep") || ok && receive.Op == token.ARROW && isCall(receive.X, "time", "After")
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
