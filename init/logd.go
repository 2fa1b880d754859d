package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"resinos/init/config"
	"resinos/services/logarchive"
	"resinos/services/logd"
)

// settleLog gives logd what config.json says: persistentLogging, and log.size, the budget of the ring. Both are read once, when
// logd starts.
func settleLog(cfg *logd.Config, path string, log *slog.Logger) {
	place := &logarchive.Partition{Log: log}
	cfg.Archive.Place, cfg.Archive.Dir = place, place.Dir()
	settings, _ := config.Read(path)
	wanted := settings.PersistentLogging // PID 1 tells what is wrong with the file
	cfg.Archive.Wanted = func() bool { return wanted }
	size, err := ringSize(path)
	if err != nil {
		log.Warn("log size is not used", "path", path, "error", err)
		return
	}
	cfg.RingBytes = size
}

const (
	// maxConfig is far above any real file.
	maxConfig = 1 << 20
	// maxRing is what logd's limit of memory has room for.
	maxRing = 32 << 20
)

// ringSize reads log.size from config.json: a number of bytes, or a text like "16M". It returns 0 if nothing is said.
func ringSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() > maxConfig {
		return 0, nil // PID 1 tells
	}
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var file struct {
		Log json.RawMessage `json:"log"`
	}
	if json.Unmarshal(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), &file) != nil || file.Log == nil {
		return 0, nil // as above
	}
	var settings struct {
		Size json.RawMessage `json:"size"`
	}
	if err := json.Unmarshal(file.Log, &settings); err != nil {
		return 0, errors.New(`key log: want an object like {"size": "16M"}`)
	}
	return parseRingSize(string(settings.Size))
}

// parseRingSize reads the JSON of a size.
func parseRingSize(raw string) (int64, error) {
	if raw == "" || raw == "null" {
		return 0, nil
	}
	if s, err := strconv.Unquote(raw); err == nil {
		raw = strings.TrimSpace(s)
	}
	size, err := logd.ParseSize(raw)
	if err == nil && size > maxRing {
		err = fmt.Errorf("more than %dM: for that, raise memory-high of the service logd and give it the flag -ring", maxRing>>20)
	}
	if err != nil {
		return 0, fmt.Errorf("key log.size: %w", err)
	}
	return size, nil
}
