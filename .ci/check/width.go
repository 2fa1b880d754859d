package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// The widest line of a Go or Markdown file, in characters; a tab counts as four.
const (
	mostWidth = 120
	tabWidth  = 4
)

// widths lists the lines that are too wide.
func widths(t *tree) (faults []string, err error) {
	err = filepath.WalkDir(t.root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if path == ".git" || slices.Contains(ignored, path) || e.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(path)
		if ext != ".go" && ext != ".md" || strings.HasPrefix(e.Name(), "z_") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, n := range wideLines(string(text), ext == ".md") {
			faults = append(faults, fmt.Sprintf("%s:%d has more than %d characters: wrap it", path, n, mostWidth))
		}
		return nil
	})
	return faults, err
}

// wideLines returns the numbers of the lines that are too wide. Rows of a Markdown table cannot be wrapped and do not
// count.
func wideLines(text string, markdown bool) (numbers []int) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if markdown && strings.HasPrefix(line, "|") {
			continue
		}
		if utf8.RuneCountInString(line)+(tabWidth-1)*strings.Count(line, "\t") > mostWidth {
			numbers = append(numbers, n)
		}
	}
	return numbers
}
