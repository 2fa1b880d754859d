package restart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"resinos/mounts/atomicfile"
)

// Load reads the records of earlier managers of this boot, and removes files that a killed manager had begun to write.
// A record that cannot be read is ignored: its container then counts as not yet started.
func Load(dir string) (map[string]Record, error) {
	out := map[string]Record{}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return out, fmt.Errorf("create directory of records: %w", err)
	}
	rests, err := filepath.Glob(filepath.Join(dir, "*"+atomicfile.Suffix))
	if err != nil {
		return out, err
	}
	for _, file := range rests {
		_ = os.Remove(file) // a file that stays does no harm, and the next write of the record reports the fault
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return out, err
	}
	for _, file := range files {
		var r Record
		data, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(data, &r) == nil {
			out[strings.TrimSuffix(filepath.Base(file), ".json")] = r
		}
	}
	return out, nil
}

// Save writes a record atomically.
func Save(dir, id string, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, id+".json"), data, 0o644)
}

// Remove removes a record. It is no error if there is none.
func Remove(dir, id string) error {
	err := os.Remove(filepath.Join(dir, id+".json"))
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
