package load

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
)

// version is raised when a file of an app comes to mean something else, so that an update of the system loads it again.
const version = 1

// maxKept bounds the file of a result.
const maxKept = 4 << 20

// kept is the form of a result in a file, after a line with the digest of the rest.
type kept struct {
	Version int
	Program string // its version: another program may say something else
	Result  Result
}

// FileName is the name of the file that keeps the result of an app, in the directory Loader.Kept.
func FileName(name string) string { return name + suffix }

const suffix = ".json"

func (l *Loader) path(name string) string { return filepath.Join(l.Kept, FileName(name)) }

// recall reads what an earlier manager kept. What is torn, foreign or garbage is no result, and the app is loaded
// again.
func (l *Loader) recall(name string) (Result, bool) {
	if l.Kept == "" || !app.ValidName(name) {
		return Result{}, false
	}
	data, err := plainfile.Read(l.path(name), maxKept)
	if err != nil {
		return Result{}, false
	}
	sum, text, ok := bytes.Cut(data, []byte("\n"))
	if !ok || digest(text) != string(sum) {
		return Result{}, false
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil || k.Version != version || k.Program != l.version() ||
		len(k.Result.Sources) == 0 || k.Result.check(name) != nil {
		return Result{}, false
	}
	return k.Result, true
}

// keep writes a result. Without it the next manager loads the app again.
func (l *Loader) keep(name string, r Result) error {
	if l.Kept == "" || !app.ValidName(name) {
		return nil
	}
	text, err := Encode(l.version(), r)
	if err == nil {
		err = os.MkdirAll(l.Kept, 0o700) // it may hold what a secret of a compose file holds
	}
	if err == nil {
		err = atomicfile.Write(l.path(name), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep what app %s is: %w", name, errors.Join(ErrNotKept, err))
	}
	return nil
}

// Encode returns the file that keeps a result of the program with this version (packed.Program.Version).
func Encode(program string, r Result) ([]byte, error) {
	text, err := json.Marshal(kept{Version: version, Program: program, Result: r})
	return append([]byte(digest(text)+"\n"), text...), err
}

// ErrNotKept is of a result that is good, and could not be written.
var ErrNotKept = errors.New("it is loaded again after a restart")

// Forget removes what is kept of apps that are not there any more, and what a killed manager had begun to write. All
// apps are loaded then, and the program is not needed for a while.
func (l *Loader) Forget(there func(name string) bool) error {
	if err := l.Program.Close(); err != nil || l.Kept == "" {
		return err
	}
	entries, err := os.ReadDir(l.Kept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); !ok || !there(name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(l.Kept, e.Name())))
		}
	}
	return err
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (l *Loader) version() string {
	text, err := l.Program.Version()
	if err != nil {
		return "unknown" // nothing is loaded with it either
	}
	return text
}
