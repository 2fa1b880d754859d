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

// widths counts the lines of each directory that are too wide. A directory may have as many as .ci/width.txt says, or none.
func widths(t *tree) ([]string, error) {
	rows, err := table("width.txt")
	if err != nil {
		return nil, err
	}
	most := map[string]int{}
	for _, row := range rows {
		var dir string
		var n int
		if _, err := fmt.Sscan(row, &dir, &n); err != nil {
			return nil, fmt.Errorf("width.txt: %q is not DIRECTORY LINES: %w", row, err)
		}
		most[dir] = n
	}
	wide := map[string][]string{} // the places, by directory
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
			dir := filepath.Dir(path)
			wide[dir] = append(wide[dir], fmt.Sprintf("%s:%d", path, n))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return overWidth(wide, most), nil
}

// overWidth compares the lines that are too wide with what is allowed.
func overWidth(wide map[string][]string, most map[string]int) (faults []string) {
	for dir, places := range wide {
		if len(places) > most[dir] {
			faults = append(faults, fmt.Sprintf("%s has %d lines of more than %d characters, its limit is %d: wrap some of %s",
				dir, len(places), mostWidth, most[dir], strings.Join(places[:min(len(places), 8)], " ")))
		}
	}
	for dir := range most {
		if len(wide[dir]) == 0 {
			faults = append(faults, dir+" has no line that is too wide: drop its row of .ci/width.txt")
		}
	}
	slices.Sort(faults)
	return faults
}

// wideLines returns the numbers of the lines that are too wide. Rows of a Markdown table cannot be wrapped and do not count.
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
