package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// pkg is what go list says of one package of ours.
type pkg struct {
	ImportPath   string
	Name         string
	Dir          string
	Doc          string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// path is the path of p below the module, "services/proc" for resinos/services/proc.
func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, modulePath+"/") }

// tree is the checkout as go list sees it.
type tree struct {
	packages []pkg
	root     string
}

const modulePath = "resinos"

// load lists the module's own packages for the device's operating system.
func load(root string) (*tree, error) {
	out, err := golist(
		"-json=ImportPath,Name,Dir,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	if err != nil {
		return nil, err
	}
	t := &tree{root: root}
	dec := json.NewDecoder(strings.NewReader(out))
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return t, nil
		} else if err != nil {
			return nil, fmt.Errorf("decode go list: %w", err)
		}
		t.packages = append(t.packages, p)
	}
}

func golist(args ...string) (string, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
