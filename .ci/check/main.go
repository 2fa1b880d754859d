// Command check checks the rules of this tree that gofmt, vet and staticcheck do not know: the layers of imports, what
// PID 1 may link, package comments and sizes, names in comments and documents that no longer exist, a reason for every
// module, and the size budgets. Its tables lie in .ci/*.txt; it never changes a file. Read rules first.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// rule is one rule of the tree: run returns a line for each fault, or an error when it could not look.
type rule struct {
	name  string
	about string
	run   func(tree *tree) ([]string, error)
}

var rules = []rule{
	{"layers", "imports go down the layers of .ci/layers.txt", layers},
	{"links", "PID 1 links only what .ci/pid1.txt allows", links},
	{"comments", "every package says what it owns", packageComments},
	{"tree", "the top level is fixed; each directory has its README", topLevelTree},
	{"packages", "packages keep to the limits of docs/STYLE.md", packageLimits},
	{"attributes", "attributes of log lines are listed in docs/NAMES.md", logAttributes},
	{"names", "files and symbols named in comments and docs exist", deadNames},
	{"modules", "every module has its reason in docs/DEPENDENCIES.md", modules},
	{"tests", "a test that lacks something says what, and fails in CI", silentSkips},
	{"sleeps", "what could wait for an event does not sleep", sleeps},
	{"sizes", "the tree has no large files", sizes},
	{"width", "lines of Go and Markdown files have at most 120 characters", widths},
	{"budgets", "binaries and images keep to .ci/budgets.txt", budgets},
}

func main() {
	only := flag.String("only", "", "run only the rules with these names, comma-separated")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./.ci/check [-only layers,names]\n\nrules:")
		for _, r := range rules {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-9s %s\n", r.name, r.about)
		}
	}
	flag.Parse()
	faults, err := run(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	if faults > 0 {
		fmt.Fprintf(os.Stderr, "check: %d faults\n", faults)
		os.Exit(1)
	}
}

// run loads the tree once and applies each chosen rule to it; it returns how many faults were printed.
func run(only string) (int, error) {
	t, err := load(".")
	if err != nil {
		return 0, err
	}
	count := 0
	for _, r := range rules {
		if only != "" && !strings.Contains(","+only+",", ","+r.name+",") {
			continue
		}
		faults, err := r.run(t)
		if err != nil {
			return count, fmt.Errorf("%s: %w", r.name, err)
		}
		for _, f := range faults {
			fmt.Printf("%s: %s\n", r.name, f)
		}
		if len(faults) == 0 {
			fmt.Printf("ok  %-9s %s\n", r.name, r.about)
		}
		count += len(faults)
	}
	return count, nil
}

// table reads a text table: one entry a line, # begins a comment, blank lines are nothing.
func table(name string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(".ci", name))
	if err != nil {
		return nil, err
	}
	var rows []string
	for line := range strings.SplitSeq(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			rows = append(rows, line)
		}
	}
	return rows, nil
}
