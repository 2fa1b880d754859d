package uevent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Device is one that was there before we listened.
type Device struct {
	Path     string // below the sys root
	Modalias string
}

// classes with many members of which none has a modalias; looking at each costs time at every boot.
var barren = []string{"tty", "vc", "mem", "bdi", "block", "vtconsole"}

// Present lists the devices below the sys root that name a modalias, each modalias once, in a fixed order. It goes through
// the lists of buses and classes, not the tree of devices, which is ten times as large.
func Present(sysRoot string) []Device {
	var all []Device
	seen := map[string]bool{}
	for _, pattern := range []string{"bus/*/devices", "class/*"} {
		folders, err := filepath.Glob(filepath.Join(sysRoot, pattern))
		if err != nil {
			continue // only a bad pattern fails
		}
		for _, folder := range folders {
			if pattern == "class/*" && slices.Contains(barren, filepath.Base(folder)) {
				continue
			}
			all = append(all, presentIn(sysRoot, folder, seen)...)
		}
	}
	return all
}

func presentIn(sysRoot, folder string, seen map[string]bool) []Device {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil // gone meanwhile
	}
	var all []Device
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(folder, entry.Name(), "modalias"))
		alias := strings.TrimSpace(string(text))
		if err != nil || alias == "" || seen[alias] {
			continue
		}
		seen[alias] = true
		path := strings.TrimPrefix(filepath.Join(folder, entry.Name()), filepath.Clean(sysRoot))
		all = append(all, Device{Path: path, Modalias: alias})
	}
	return all
}
