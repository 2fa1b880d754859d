package udevrules

import (
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// sysfs is the Sys of a kernel, by the directory where it is attached.
type sysfs string

// mostAttribute is more than any attribute that a rule compares; sysfs gives a page at most.
const mostAttribute = 4 << 10

// Attribute implements Sys. White space at the end is no part of a value, as with udev.
func (s sysfs) Attribute(device, name string) (string, bool) {
	if !filepath.IsLocal(name) {
		return "", false
	}
	f, err := os.Open(filepath.Join(string(s), device, name))
	if err != nil {
		return "", false
	}
	defer f.Close() // only read
	text, err := io.ReadAll(io.LimitReader(f, mostAttribute))
	if err != nil {
		return "", false
	}
	return strings.TrimRight(string(text), " \t\r\n\x00"), true
}

// Link implements Sys.
func (s sysfs) Link(device, name string) string {
	target, err := os.Readlink(filepath.Join(string(s), device, name))
	if err != nil {
		return ""
	}
	return path.Base(target)
}

// Above implements Sys: directories between two devices have no event of their own.
func (s sysfs) Above(device string) string {
	for {
		device = path.Dir(device)
		if device == "/" || device == "/devices" || device == "." {
			return ""
		}
		if _, err := os.Lstat(filepath.Join(string(s), device, "uevent")); err == nil {
			return device
		}
	}
}

// present lists the devices that exist, in the order of their paths: those of all classes and buses.
func (k *Keeper) present() []Device {
	seen := map[string]bool{}
	for _, pattern := range []string{"class/*/*", "bus/*/devices/*"} {
		found, err := filepath.Glob(filepath.Join(k.Sys, pattern))
		if err != nil {
			continue // only a bad pattern fails
		}
		for _, link := range found {
			real, err := filepath.EvalSymlinks(link)
			if err == nil {
				seen[strings.TrimPrefix(real, filepath.Clean(k.Sys))] = true
			}
		}
	}
	var all []Device
	for _, device := range slices.Sorted(maps.Keys(seen)) {
		text, found := sysfs(k.Sys).Attribute(device, "uevent")
		if !found {
			continue
		}
		d := Device{Action: "add", Path: device, Env: map[string]string{"ACTION": "add", "DEVPATH": device}}
		for line := range strings.Lines(text) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				d.Env[key] = value
			}
		}
		d.Env["SUBSYSTEM"] = sysfs(k.Sys).Link(device, "subsystem")
		d.Node = d.Env["DEVNAME"]
		all = append(all, d)
	}
	return all
}
