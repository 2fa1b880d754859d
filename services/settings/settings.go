// Package settings passes settings to the daemons. It owns the file with the values in force, waiting for a change of
// some of them, and the record of what a daemon did with them.
//
// It never reads config.json and knows no key: services/config decides what is in force, one process publishes it, and
// a daemon in any layer follows the keys that it uses. Read Settings first, then Follow.
package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"resinos/mounts/atomicfile"
)

// Path is the file with the values in force on a device. Only root can read it, because it contains the owner's
// secrets.
const Path = "/run/resinos/config.json"

// maxSize is far larger than any config.json.
const maxSize = 8 << 20

// From is the source of a value, or of all of them.
type From string

// The sources.
const (
	File      From = "file"           // config.json
	LastGood  From = "last good copy" // the copy beside a config.json that cannot be used
	Default   From = "default"
	Generated From = "generated" // created by the device, and kept
)

// Value is one value in force. Its form depends on the kind of its key in services/config: a string, a boolean, a whole
// number, an array of strings or an object of strings.
type Value struct {
	JSON json.RawMessage `json:"value"`
	From From            `json:"from"`
}

// Settings is everything in force. Keys of nested objects are joined by dots: "os.sshKeys".
type Settings struct {
	Source  From              `json:"source"`            // File, LastGood or Default
	Fault   string            `json:"fault,omitempty"`   // why it is not File
	Values  map[string]Value  `json:"values"`            // of each known key with a value
	Faults  map[string]string `json:"faults,omitempty"`  // by key: what could not be used, and the remedy
	Unknown []string          `json:"unknown,omitempty"` // keys that this system does not know, kept for others
}

// Text returns a value as a string; empty if there is none or it is not a string.
func (s Settings) Text(key string) string { return as[string](s, key) }

// Flag returns a value as a boolean.
func (s Settings) Flag(key string) bool { return as[bool](s, key) }

// Number returns a value as a whole number.
func (s Settings) Number(key string) int64 { return as[int64](s, key) }

// List returns a value as a list of words or lines.
func (s Settings) List(key string) []string { return as[[]string](s, key) }

// Table returns a value as strings by name.
func (s Settings) Table(key string) map[string]string { return as[map[string]string](s, key) }

func as[T any](s Settings, key string) T {
	var v T
	if json.Unmarshal(s.Values[key].JSON, &v) != nil {
		var none T
		return none
	}
	return v
}

// Same reports whether two settings have the same values for some keys.
func (s Settings) Same(other Settings, keys []string) bool {
	for _, key := range keys {
		if !bytes.Equal(s.Values[key].JSON, other.Values[key].JSON) {
			return false
		}
	}
	return true
}

// Read reads the settings published at path. A missing file gives the zero Settings and no error: nothing is published
// yet.
func Read(path string) (Settings, error) {
	var s Settings
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("read settings %s: %w", path, err)
	}
	return s, nil
}

// Publish replaces the file at path unless it has the same content already. A reader sees either the old or the new
// file.
func Publish(path string, s Settings) (changed bool, err error) {
	return replace(path, s)
}

// replace writes v as JSON into a file on a tmpfs.
func replace(path string, v any) (changed bool, err error) {
	text, err := json.Marshal(v) // compact: values are compared as text
	if err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	text = append(text, '\n')
	if old, err := read(path); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, atomicfile.Write(path, text, 0o600)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = errors.New("longer than " + strconv.Itoa(maxSize) + " bytes")
	}
	return text, err
}
