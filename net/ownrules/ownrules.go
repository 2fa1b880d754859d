// Package ownrules owns the owner's rules of the packet filter: the files *.nft in a directory, each of which Debian's
// nft loads in one transaction. A file that is wrong is refused whole; what a removed file created is removed, and
// nothing else.
//
// nft loads each file in an empty network namespace first, which shows what the file creates. A file that touches
// anything else fails there, before it has any effect on the device. Read first: Loader, then plan.
package ownrules

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"resinos/mounts/packed"
	"resinos/mounts/plainfile"
)

// The places on a device.
const (
	Dir   = "/etc/resinos/nftables.d"
	State = "/run/resinos/own-rules.json"
)

// The limits of what is read.
const (
	mostFiles = 64
	maxSize   = 1 << 20
)

// File is one file and what became of it. Its JSON is the format of the state.
type File struct {
	Name   string   `json:"name"`
	Digest string   `json:"digest,omitempty"` // of the content that is loaded; empty: nothing is
	Tables []string `json:"tables,omitempty"` // that the content made, as in "inet shop"
	Error  string   `json:"error,omitempty"`  // why the file as it is now is refused; what was loaded before stays
	Tried  string   `json:"tried,omitempty"`  // the digest of the content that was refused
}

// Loader makes the packet filter what the files say.
type Loader struct {
	Dir   string // empty: Dir
	State string // file in /run that holds what is loaded; empty: State
	NFT   string // the program; empty: that of the packed file nft
	Log   *slog.Logger

	program *packed.Program // NFT, while Load runs
}

// Any reports whether there are files with rules, or rules of files that are gone.
func Any(dir, state string) bool {
	list, _ := os.ReadDir(dir) // a directory that is not there has none
	loaded, _ := Read(state)
	return len(loaded) > 0 || slices.ContainsFunc(list, func(e fs.DirEntry) bool { return named(e.Name()) })
}

// Read returns what became of the files when they were loaded last. Without a state, nothing is loaded.
func Read(state string) ([]File, error) {
	text, err := plainfile.Read(state, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var files []File
	if err == nil {
		err = json.Unmarshal(text, &files)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", state, err)
	}
	return files, nil
}

// Load loads what has changed, and returns what became of each file. The error says why nothing could be done.
func (l Loader) Load(ctx context.Context) (now []File, err error) {
	l.Dir, l.State = cmp.Or(l.Dir, Dir), cmp.Or(l.State, State)
	l.program = &packed.Program{Path: cmp.Or(l.NFT, packed.Path("nft")+"/nft")}
	defer func() { err = errors.Join(err, l.program.Close()) }()
	before, err := Read(l.State)
	if err != nil {
		l.Log.Warn("state of rules not read", "error", err) // it is as if nothing were loaded
	}
	sources, err := l.sources()
	if err != nil || len(before)+len(sources) == 0 {
		return nil, err
	}
	there, err := l.tables(ctx)
	if err != nil {
		return before, err
	}
	for _, s := range plan(sources, before, there) {
		now = append(now, l.carry(ctx, s, there)...)
	}
	return now, l.save(now)
}

// source is a file as it is now.
type source struct {
	name, digest, text string
	err                error // why it is not read
}

// sources reads the files.
func (l Loader) sources() ([]source, error) {
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	var out []source
	for _, e := range entries { // sorted by name
		if !named(e.Name()) {
			continue
		}
		s := source{name: e.Name()}
		text, err := plainfile.Read(filepath.Join(l.Dir, e.Name()), maxSize)
		switch {
		case len(out) >= mostFiles:
			s.err = fmt.Errorf("there are more than %d files", mostFiles)
		case err != nil:
			s.err = err
		default:
			s.text, s.digest, s.err = string(text), digest(text), judge(filepath.Join(l.Dir, e.Name()), string(text))
		}
		out = append(out, s)
	}
	return out, nil
}

// named reports whether a file has rules by its name.
func named(name string) bool { return strings.HasSuffix(name, ".nft") && !strings.HasPrefix(name, ".") }

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// judge returns why a file must not be loaded, whatever nft says.
func judge(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st, known := info.Sys().(*syscall.Stat_t); !known || st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write it; try: chown root %s; chmod 644 %s", path, path)
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) > 1 && words[0] == "flush" && strings.HasPrefix(words[1], "ruleset") {
			return fmt.Errorf("%s:%d: flush ruleset would remove the tables of others; "+
				"remove the line: the device replaces the tables of this file by itself", path, n)
		}
	}
	return nil
}

// save writes what is loaded. A file in RAM waits for no disk.
func (l Loader) save(files []File) error {
	text, err := json.Marshal(files)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(l.State), 0o755)
	}
	if err == nil {
		err = os.WriteFile(l.State+".new", append(text, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(l.State+".new", l.State)
	}
	if err != nil {
		return fmt.Errorf("keep the state of rules: %w", err)
	}
	return nil
}
