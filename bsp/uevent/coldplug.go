package uevent

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Device is one that existed before the listener.
type Device struct {
	Path     string // below the sys root
	Modalias string
}

// lists are the directories of devices with a modalias. Of the classes only these two have one without a bus; looking
// through the others would cost a failed open for each of their members at every boot.
var lists = [...]string{"bus/*/devices", "class/dmi", "class/input"}

// Present lists the devices below the sys root that have a modalias, each modalias once, in a fixed order: virtio
// first, because the network of a virtual board is there, and it takes longest to be ready. It goes through the lists
// of buses and classes, not through the tree of devices, which is ten times as large.
func Present(sysRoot string) []Device {
	var all []Device
	seen := map[string]bool{}
	for _, pattern := range lists {
		dirs, err := filepath.Glob(filepath.Join(sysRoot, pattern))
		if err != nil {
			continue // only a bad pattern fails
		}
		for _, dir := range dirs {
			all = append(all, presentIn(sysRoot, dir, seen)...)
		}
	}
	slices.SortStableFunc(all, func(a, b Device) int { return urgency(a) - urgency(b) })
	return all
}

// There reports whether a device has a modalias that matches the pattern, as of Like.
func There(sysRoot, pattern string) bool { return len(Like(sysRoot, pattern)) > 0 }

// Like lists the devices that have a modalias that matches the pattern (path.Match), which names the bus in front of
// its first colon: "pci:*bc03*". It looks at the devices of this bus alone.
func Like(sysRoot, pattern string) []Device {
	bus, _, _ := strings.Cut(pattern, ":")
	if bus == "of" || bus == "acpi" {
		bus = "platform" // the devices that firmware names
	}
	// The names of buses have no special characters; no device matches a bad pattern.
	return slices.DeleteFunc(presentIn(sysRoot, filepath.Join(sysRoot, "bus", bus, "devices"), map[string]bool{}),
		func(d Device) bool {
			matched, err := path.Match(pattern, d.Modalias)
			return !matched || err != nil
		})
}

func urgency(d Device) int {
	if strings.HasPrefix(d.Modalias, "virtio:") {
		return 0
	}
	return 1
}

func presentIn(sysRoot, dir string, seen map[string]bool) []Device {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // the device is gone
	}
	var all []Device
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name(), "modalias"))
		alias := strings.TrimSpace(string(text))
		if err != nil || alias == "" || seen[alias] {
			continue
		}
		seen[alias] = true
		path := strings.TrimPrefix(filepath.Join(dir, entry.Name()), filepath.Clean(sysRoot))
		all = append(all, Device{Path: path, Modalias: alias})
	}
	return all
}
