package boot

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
var sysctlTable string

// Sysctl is one kernel setting.
type Sysctl struct {
	Key   string `toml:"key"` // dotted, as sysctl(8) writes it
	Value string `toml:"value"`
}

// Sysctls returns the settings that every image makes, in order.
func Sysctls() ([]Sysctl, error) { return ParseSysctls("sysctl.toml", sysctlTable) }

// ParseSysctls reads a table of kernel settings and reports all faults at once.
func ParseSysctls(name, text string) ([]Sysctl, error) {
	var file struct {
		Sysctl []Sysctl `toml:"sysctl"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("parse %s: unknown key %s", name, key))
	}
	for _, s := range file.Sysctl {
		if s.Key == "" || strings.Trim(s.Key, "abcdefghijklmnopqrstuvwxyz0123456789_-.") != "" || strings.Contains(s.Key, "..") {
			faults = append(faults, fmt.Errorf("parse %s: %q is not a key", name, s.Key))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return file.Sysctl, nil
}

// applySysctl writes s below root ("/proc/sys"). A key that this kernel lacks is no error.
func applySysctl(root string, s Sysctl) error {
	path := filepath.Join(root, strings.ReplaceAll(s.Key, ".", "/"))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString(s.Value + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("set %s: %w", s.Key, err)
	}
	return nil
}
