// Package sysctl owns the settings of the kernel: the table of those that every image makes, and how a value is written
// to a file of the kernel. It never creates such a file, and decides no setting: the caller names it. Read sysctl.toml
// first, then Setting.
package sysctl

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

//go:embed sysctl.toml
var table string

// Root is where the kernel has its settings.
const Root = "/proc/sys"

// Setting is one setting of the kernel.
type Setting struct {
	Key   string `toml:"key"` // dotted, as sysctl(8) writes it
	Value string `toml:"value"`
}

// String says the setting for people.
func (s Setting) String() string { return s.Key + " = " + s.Value }

// Table returns the settings that every image makes, in order.
func Table() ([]Setting, error) { return Parse("sysctl.toml", table) }

// Parse reads a table of settings and reports all faults at once.
func Parse(name, text string) ([]Setting, error) {
	var file struct {
		Sysctl []Setting `toml:"sysctl"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("parse %s: unknown key %s", name, key))
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_-."
	for _, s := range file.Sysctl {
		if s.Key == "" || strings.Trim(s.Key, letters) != "" || strings.Contains(s.Key, "..") {
			faults = append(faults, fmt.Errorf("parse %s: %q is not a key", name, s.Key))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return file.Sysctl, nil
}

// Apply writes s below root, which is Root but for tests. A key that this kernel lacks is no error.
//
// The value ends with a newline: kernel.printk_devkmsg refuses one without (devkmsg_sysctl_set_loglvl in the kernel's
// printk.c).
func Apply(root string, s Setting) error {
	err := Write(filepath.Join(root, strings.ReplaceAll(s.Key, ".", "/")), s.Value+"\n")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set %s: %w", s.Key, err)
	}
	return nil
}

// Set gives a setting a value, unless it has it already. Its path is that below Root, with slashes: the name of a link
// may contain dots. The error is an fs.ErrNotExist for one that this kernel lacks.
func Set(path, value string) error {
	file := filepath.Join(Root, path)
	if old, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := Write(file, value); err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	return nil
}

// Write writes a value into a file of the kernel, in one call. It never creates one.
func Write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
