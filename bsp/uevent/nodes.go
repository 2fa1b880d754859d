package uevent

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"resinos/bsp/kmod"
	"resinos/bsp/tables"
)

// A Rule gives a mode to the nodes that match Pattern, a path below /dev.
type Rule struct {
	Pattern string
	Mode    fs.FileMode
}

//go:embed nodes.toml
var nodesTable []byte

// Rules decodes the shipped table.
func Rules() ([]Rule, error) { return ParseRules("nodes.toml", nodesTable) }

// ParseRules decodes a table of rules; file is its name for messages. All faults are reported at once.
func ParseRules(file string, text []byte) ([]Rule, error) {
	var decoded struct {
		Node []struct {
			Pattern string `toml:"pattern"`
			Mode    string `toml:"mode"`
		} `toml:"node"`
	}
	t := tables.Decode(file, text, &decoded)
	var rules []Rule
	for _, n := range decoded.Node {
		mode, err := strconv.ParseUint(n.Mode, 8, 16)
		if err != nil || mode > 0o777 {
			t.Fault("", "node %q: mode %q: want octal, at most 0777", n.Pattern, n.Mode)
		}
		if !clean(n.Pattern) {
			t.Fault("", "node %q: want a path below /dev", n.Pattern)
		}
		rules = append(rules, Rule{Pattern: n.Pattern, Mode: fs.FileMode(mode)})
	}
	if err := t.Err(); err != nil {
		return nil, err
	}
	return rules, nil
}

func clean(name string) bool {
	_, err := path.Match(name, "")
	return err == nil && name != "" && name != "." && filepath.IsLocal(name) && path.Clean(name) == name
}

// ModeOf returns the mode of a node; the last rule that matches decides.
func ModeOf(rules []Rule, node string) (mode fs.FileMode, found bool) {
	for _, r := range rules {
		if ok, err := path.Match(r.Pattern, node); err == nil && ok {
			mode, found = r.Mode, true
		}
	}
	return mode, found
}

// applyModes sets the modes of the nodes that exist.
func applyModes(devRoot string, rules []Rule) error {
	var faults []error
	for _, r := range rules {
		names, err := filepath.Glob(filepath.Join(devRoot, r.Pattern))
		if err != nil {
			continue // ParseRules refused such patterns
		}
		for _, name := range names {
			faults = append(faults, setMode(name, r.Mode))
		}
	}
	return errors.Join(faults...)
}

// setMode changes only device nodes; a node that no longer exists is no error.
func setMode(file string, mode fs.FileMode) error {
	st, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set mode of node: %w", err)
	}
	if st.Mode()&fs.ModeDevice == 0 || st.Mode().Perm() == mode {
		return nil
	}
	if err := os.Chmod(file, mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set mode of node: %w", err)
	}
	return nil
}

// makeNodes creates the nodes of modules that are loaded when their node is opened, such as /dev/net/tun.
func makeNodes(devRoot string, nodes []kmod.Node) error {
	var faults []error
	for _, n := range nodes {
		file := filepath.Join(devRoot, n.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			faults = append(faults, fmt.Errorf("create node: %w", err))
			continue
		}
		kind := uint32(unix.S_IFCHR)
		if n.Block {
			kind = unix.S_IFBLK
		}
		err := unix.Mknod(file, kind|0o600, int(unix.Mkdev(n.Major, n.Minor)))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			faults = append(faults, fmt.Errorf("create node %s: %w", file, err))
		}
	}
	return errors.Join(faults...)
}
