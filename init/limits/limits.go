// Package limits owns the limits of all containers together on the resources that they share with the system: tasks,
// memory and swap. It reads how much the kernel has of each, and writes the limits to the cgroup above all containers.
// It never looks at a single container, and knows no service. Read limits.toml first, then Plan.
package limits

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"
)

// Group is the cgroup above all containers; containers/engine creates them there.
const Group = "/sys/fs/cgroup/resinos/containers"

//go:embed limits.toml
var table string

// Limit is a row of the table.
type Limit struct {
	File  string   `toml:"file"`  // of the cgroup
	Of    []string `toml:"of"`    // kernel settings, as sysctl(8) writes them, or MemTotal: the smallest counts
	Share int64    `toml:"share"` // percent
	Least int64    `toml:"least"` // the least that the system keeps
	Most  int64    `toml:"most"`  // the most that the system keeps; 0: no bound
}

// Step writes one limit.
type Step struct {
	File  string
	Value int64
}

// String returns the step for people.
func (s Step) String() string { return fmt.Sprintf("%s = %d", s.File, s.Value) }

// Table returns the limits of every image.
func Table() ([]Limit, error) { return parse("limits.toml", table) }

// parse reads a table and reports all its faults at once.
func parse(name, text string) ([]Limit, error) {
	var file struct {
		Limit []Limit `toml:"limit"`
	}
	meta, err := toml.Decode(text, &file)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var faults []error
	for _, key := range meta.Undecoded() {
		faults = append(faults, fmt.Errorf("parse %s: unknown key %s", name, key))
	}
	for i, l := range file.Limit {
		switch {
		case l.File == "" || strings.Trim(l.File, "abcdefghijklmnopqrstuvwxyz.") != "":
			faults = append(faults, fmt.Errorf("parse %s: limit %d: %q is no file of a control group", name, i+1,
				l.File))
		case len(l.Of) == 0:
			faults = append(faults, fmt.Errorf("parse %s: %s: say what it is a share of", name, l.File))
		case l.Share < 1 || l.Share > 99 || l.Least < 0 || l.Most < 0 || l.Most > 0 && l.Most < l.Least:
			faults = append(faults, fmt.Errorf("parse %s: %s: share is 1 to 99, and least no more than most", name,
				l.File))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return file.Limit, nil
}

// Plan computes the limits from the amounts in have. A row whose amounts are not known is left out.
func Plan(rows []Limit, have map[string]int64) []Step {
	var steps []Step
	for _, l := range rows {
		var total int64
		for _, name := range l.Of {
			if n := have[name]; n > 0 && (total == 0 || n < total) {
				total = n
			}
		}
		if total > 0 {
			steps = append(steps, Step{l.File, l.of(total)})
		}
	}
	return steps
}

// of returns the containers' part of total.
func (l Limit) of(total int64) int64 {
	share := total / 100 * l.Share
	kept := max(total-share, l.Least)
	if l.Most > 0 {
		kept = min(kept, l.Most)
	}
	return max(total-kept, min(total/2, share))
}

// Observe reads the amounts that the rows name from the file system proc. The error names what cannot be read, and the
// result lacks it.
func Observe(proc string, rows []Limit) (map[string]int64, error) {
	have := map[string]int64{}
	var faults []error
	for _, l := range rows {
		for _, name := range l.Of {
			if _, known := have[name]; known {
				continue
			}
			n, err := observe(proc, name)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			have[name] = n
		}
	}
	return have, errors.Join(faults...)
}

func observe(proc, name string) (int64, error) {
	path := filepath.Join(proc, "sys", strings.ReplaceAll(name, ".", "/"))
	if name == memTotal {
		path = filepath.Join(proc, "meminfo")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	text, unit := string(data), int64(1)
	if name == memTotal {
		text, unit = between(text, memTotal+":", "kB"), 1024
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("read %s: %s has no number for it", name, path)
	}
	return n * unit, nil
}

// memTotal is the one name that is not a kernel setting.
const memTotal = "MemTotal"

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}

// Apply creates the cgroup dir if it is missing, and writes the steps there. If a file does not exist because the
// kernel was built without the feature (swap), its limit is skipped; otherwise that is an error. The other limits are
// set in any case.
func Apply(dir string, steps []Step) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the containers' control group: %w", err)
	}
	var faults []error
	for _, s := range steps {
		f, err := os.OpenFile(filepath.Join(dir, s.File), os.O_WRONLY|unix.O_TRUNC, 0)
		if errors.Is(err, fs.ErrNotExist) && strings.Contains(s.File, ".swap.") {
			continue
		}
		if err == nil {
			_, err = f.WriteString(strconv.FormatInt(s.Value, 10))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("limit containers to %v: %w", s, err))
		}
	}
	return errors.Join(faults...)
}
