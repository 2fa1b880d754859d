// Package config owns config.json on the boot partition: which keys there are and what stands in for those that are missing or wrong.
// It never writes the file and never fails: a device must boot whatever a person or a power cut left in it.
// Read Config first.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Path is where the file lies on the device.
const Path = "/mnt/boot/config.json"

// maxSize is far above any real file; a larger one is somebody's accident.
const maxSize = 1 << 20

// Config is what PID 1 wants from config.json; other programs read their own keys.
type Config struct {
	Hostname          string `json:"hostname"`          // empty: derive it
	UUID              string `json:"uuid"`              // 32 hex digits; empty: the device has none yet
	PersistentLogging bool   `json:"persistentLogging"` // keep the log on resin-data
}

// Read reads the file at path. It always returns a usable Config; the error says what of the file could not be used.
// A missing file is no error.
func Read(path string) (Config, error) {
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return c, fmt.Errorf("read config %s: %w", path, err)
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading: nothing to lose
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Values reads every key of the file whose value is a string, a number or a boolean, as text. A file that is missing or
// cannot be parsed has none.
func Values(path string) map[string]string {
	text, err := read(path)
	if err != nil || len(text) > maxSize {
		return nil
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &keys) != nil {
		return nil
	}
	values := make(map[string]string, len(keys))
	for key, raw := range keys {
		var s string
		switch err := json.Unmarshal(raw, &s); {
		case string(raw) == "null":
		case err == nil:
			values[key] = s
		case raw[0] != '{' && raw[0] != '[':
			values[key] = string(raw)
		}
	}
	return values
}

// Parse reads the keys one by one, so that a bad value costs only its own key. Unknown keys belong to others and are
// skipped; strings stand for booleans too ("true"), as the reference system tolerates them.
func Parse(text []byte) (Config, error) {
	if len(text) > maxSize {
		return Config{}, fmt.Errorf("parse config: longer than %d bytes", maxSize)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // editors on other systems begin with a byte order mark
	if len(bytes.TrimSpace(text)) == 0 {
		return Config{}, errors.New("parse config: the file is empty")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return Config{}, fmt.Errorf("parse config: %w", err)
	}
	var c Config
	faults := []error{
		pick(keys, "hostname", &c.Hostname, hostname),
		pick(keys, "uuid", &c.UUID, uuid),
		pick(keys, "persistentLogging", &c.PersistentLogging, boolean),
	}
	if err := errors.Join(faults...); err != nil {
		return c, fmt.Errorf("parse config: %w", err)
	}
	return c, nil
}

func pick[T any](keys map[string]json.RawMessage, name string, into *T, parse func(json.RawMessage) (T, error)) error {
	raw, found := keys[name]
	if !found || string(raw) == "null" {
		return nil
	}
	v, err := parse(raw)
	if err != nil {
		return fmt.Errorf("key %s: %w", name, err)
	}
	*into = v
	return nil
}

func text(raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", errors.New("want a string")
	}
	return s, nil
}

func boolean(raw json.RawMessage) (bool, error) {
	switch strings.Trim(string(raw), `"`) {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func uuid(raw json.RawMessage) (string, error) {
	s, err := text(raw)
	if err != nil || s == "" {
		return "", err
	}
	s = strings.ToLower(s)
	if len(s) < 32 || strings.Trim(s, "0123456789abcdef") != "" {
		return "", errors.New("want at least 32 hex digits")
	}
	return s, nil
}

func hostname(raw json.RawMessage) (string, error) {
	s, err := text(raw)
	if err != nil || s == "" {
		return "", err
	}
	if !ValidHostname(s) {
		return "", fmt.Errorf("%.80q is not a host name: letters, digits and hyphens, at most 63", s)
	}
	return s, nil
}

// ValidHostname reports whether s is one label of a name in the DNS (RFC 1123, section 2.1).
func ValidHostname(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range s {
		if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}

// DerivedHostname is the name the device goes by: the configured one, else the first seven digits of its UUID, else resinos.
func (c Config) DerivedHostname() string {
	switch {
	case c.Hostname != "":
		return c.Hostname
	case len(c.UUID) >= 7:
		return c.UUID[:7]
	}
	return "resinos"
}
