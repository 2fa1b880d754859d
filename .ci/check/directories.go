package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// topLevel is what the user fixed, and what a repository needs beside it.
var topLevel = strings.Fields("go.mod go.sum init services mounts net containers bsp images Makefile README.md " +
	"LICENSE docs .ci .gitignore .git")

// codeDirectories are the seven that hold our code.
var codeDirectories = strings.Fields("init services mounts net containers bsp images")

// ignored are the directories that a build leaves and git ignores.
var ignored = strings.Fields("bin build .cache")

func topLevelTree(t *tree) ([]string, error) {
	entries, err := os.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var faults []string
	for _, e := range entries {
		if !slices.Contains(topLevel, e.Name()) && !slices.Contains(ignored, e.Name()) {
			faults = append(faults, e.Name()+" has no place at the top level; put it into one of the seven directories")
		}
	}
	for _, directory := range codeDirectories {
		if _, err := os.Stat(filepath.Join(directory, "README.md")); err != nil {
			faults = append(faults, directory+"/README.md is missing: each directory has one")
		}
		loose, _ := filepath.Glob(filepath.Join(directory, "*.go"))
		if len(loose) > 0 && directory != "init" {
			faults = append(faults, directory+" holds Go files directly; move them into a package below it")
		}
	}
	return append(faults, packageNames(t)...), nil
}

// packageNames finds two packages of one name, and names that say nothing.
func packageNames(t *tree) []string {
	var faults []string
	home := map[string]string{}
	for _, p := range t.packages {
		if slices.Contains(strings.Fields("util utils common types pkg helper helpers misc"), p.Name) {
			faults = append(faults, p.path()+": a package is one noun of our field, never "+p.Name)
		}
		if other, taken := home[p.Name]; taken && p.Name != "main" {
			faults = append(faults, fmt.Sprintf("%s and %s have the same package name", other, p.path()))
		}
		home[p.Name] = p.path()
	}
	return faults
}

func packageComments(t *tree) ([]string, error) {
	var faults []string
	for _, p := range t.packages {
		if len(p.GoFiles) > 0 && len(p.Doc) == 0 {
			faults = append(faults, p.path()+" has no package comment: what it owns, what it never does, the type to "+
				"read first")
		}
	}
	return faults, nil
}

// ownDecision is a test's own look at whether it may be skipped, which is testenv's to decide.
const ownDecision = `os.Getenv("CI")`

// A test skips itself only where it is asked to (-short, a variable of a bench that is to be set), or is run by another
// one. What it lacks it tells testenv, which fails it in CI.
var ownSkip = regexp.MustCompile(`\b[tb]\.Skip(Now|f)?\((.*)`)
var skipAllowed = regexp.MustCompile(`^"(-short: |run by |set )`)

func silentSkips(t *tree) ([]string, error) {
	var faults []string
	for _, p := range t.packages {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			file := filepath.Join(p.path(), name)
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			if p.Name != "testenv" && strings.Contains(string(text), ownDecision) {
				faults = append(faults, file+" decides by itself what is skipped: call testenv.Lacking")
			}
			for _, skip := range ownSkip.FindAllStringSubmatch(string(text), -1) {
				if p.Name != "testenv" && !skipAllowed.MatchString(skip[2]) {
					faults = append(faults, file+" skips by itself: call testenv.Lacking instead of "+
						strings.TrimSpace(skip[0]))
				}
			}
		}
	}
	return faults, nil
}

// modules wants a row in the reasons tables for every module that go.mod, or the one of the Docker API, requires
// directly or takes a tool from, and no row more.
func modules(*tree) ([]string, error) {
	doc, err := os.ReadFile("docs/DEPENDENCIES.md")
	if err != nil {
		return nil, err
	}
	out, err := golist("-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}}{{end}}", "all")
	if err != nil {
		return nil, err
	}
	tools, err := golist("-f", "{{.Module.Path}}", "tool")
	if err != nil {
		return nil, err
	}
	own, err := ownModule("containers/docker/go.mod")
	if err != nil {
		return nil, err
	}
	required := append(strings.Fields(out+tools), own...)
	var faults []string
	for _, m := range required {
		if !strings.Contains(string(doc), "| `"+m+"` |") {
			faults = append(faults, "docs/DEPENDENCIES.md has no row for "+m)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+/[^`]+)` \\|").FindAllStringSubmatch(string(doc), -1) {
		if !slices.Contains(required, row[1]) {
			faults = append(faults, "docs/DEPENDENCIES.md names "+row[1]+", which go.mod does not require")
		}
	}
	return faults, nil
}

// ownModule lists what the go.mod file of another module of the tree requires directly, and downloads nothing.
func ownModule(file string) (required []string, err error) {
	out, err := exec.Command("go", "mod", "edit", "-json", file).Output()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var module struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	for _, r := range module.Require {
		if !r.Indirect {
			required = append(required, r.Path)
		}
	}
	return required, nil
}
