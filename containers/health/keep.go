package health

import (
	"encoding/json"
	"os"
	"path/filepath"

	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// maxState is above the largest state: the outputs in the log, which JSON may make six times as long.
const maxState = 1 << 20

// load reads a saved state. It fails if save cannot have written it.
func load(path string) (State, error) {
	var s State
	text, err := plainfile.Read(path, maxState)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && (len(s.Log) > maxLog || s.Status != Starting && s.Status != Healthy && s.Status != Unhealthy) {
		err = os.ErrInvalid
	}
	return s, err
}

// save writes a state atomically.
func save(path string, s State) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o600)
}
