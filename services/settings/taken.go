package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Taken is what a daemon has done with one value.
type Taken struct {
	Daemon string  `json:"daemon"`
	Digest string  `json:"digest"`          // of the value that it read
	At     float64 `json:"at"`              // seconds since the kernel started
	Error  string  `json:"error,omitempty"` // why it could not use it
}

// Of reports whether this value was taken.
func (t Taken) Of(v Value) bool { return t.Digest == digest(v) }

// A Fault is the fault of one key; it says nothing about the other keys of the daemon.
type Fault struct {
	Key  string
	Text string
}

// Error returns the text alone: whoever shows it shows the key beside it.
func (f Fault) Error() string { return f.Text }

// digest represents a value: records must be short and must not repeat secrets.
func digest(v Value) string {
	sum := sha256.Sum256(v.JSON)
	return hex.EncodeToString(sum[:8])
}

// takenDir is beside the published file and has one file for each daemon, so that no two write the same one.
func takenDir(path string) string { return filepath.Join(filepath.Dir(path), "taken") }

// taking prevents that the records of several followers in one process overwrite each other.
var taking sync.Mutex

// Take records that a daemon has applied the values of some keys, or with a fault why it could not; a Fault concerns
// its key only, and several may be joined. Other keys keep their earlier record, and a key with the same value and
// result keeps its time.
func Take(path, daemon string, s Settings, keys []string, now time.Duration, fault error) error {
	taking.Lock()
	defer taking.Unlock()
	file := filepath.Join(takenDir(path), daemon+".json")
	records := map[string]Taken{}
	// nil: "null" is JSON too
	if text, err := read(file); err == nil && (json.Unmarshal(text, &records) != nil || records == nil) {
		records = map[string]Taken{}
	}
	for _, key := range keys {
		text := faultOf(key, fault)
		old, known := records[key]
		if known && old.Of(s.Values[key]) && old.Error == text {
			continue
		}
		records[key] = Taken{Daemon: daemon, Digest: digest(s.Values[key]), At: now.Seconds(), Error: text}
	}
	_, err := replace(file, records)
	return err
}

// faultOf is what a fault says of one key: a Fault is of its own key only, and errors that were joined are judged one
// by one.
func faultOf(key string, fault error) string {
	if joined, ok := fault.(interface{ Unwrap() []error }); ok {
		var texts []string
		for _, err := range joined.Unwrap() {
			if text := faultOf(key, err); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, "; ")
	}
	var one Fault
	if fault == nil || errors.As(fault, &one) && key != one.Key {
		return ""
	}
	return fault.Error()
}

// AllTaken reads the records of all daemons, by key. Several daemons may follow one key.
func AllTaken(path string) (map[string][]Taken, error) {
	list, err := os.ReadDir(takenDir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what daemons have taken: %w", err)
	}
	all := map[string][]Taken{}
	var faults []error
	for _, entry := range list { // in the order of their names
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		var records map[string]Taken
		text, err := read(filepath.Join(takenDir(path), entry.Name()))
		if err == nil {
			err = json.Unmarshal(text, &records)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("read %s: %w", entry.Name(), err))
			continue
		}
		for key, one := range records {
			all[key] = append(all[key], one)
		}
	}
	return all, errors.Join(faults...)
}
