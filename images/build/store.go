package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// generation must change when the code of a stage produces another result from the same inputs.
const generation = "1"

// keptPerStage is how many results of one stage stay in the cache: two boards, three variants, and the previous one.
const keptPerStage = 8

// store keeps the results of stages, each in a directory named after the stage and the digest of its inputs.
type store struct{ dir string }

func openStore(cache string) (store, error) {
	s := store{filepath.Join(cache, "stages")}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return store{}, fmt.Errorf("open cache: %w", err)
	}
	return s, nil
}

// do returns the directory of a stage's result. If there is none yet, fill writes it into a temporary directory, which
// gets its name when it is complete: a build that is killed leaves nothing that a later one could use as a result.
func (s store) do(ctx context.Context, name, key string, fill func(context.Context, string) error) (dir string,
	cached bool, err error) {
	sum := sha256.Sum256([]byte(generation + "\x00" + name + "\x00" + key))
	dir = filepath.Join(s.dir, fmt.Sprintf("%s-%x", name, sum[:12]))
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		return dir, true, os.Chtimes(dir, now, now) // now the youngest, for prune
	}
	aside, err := os.MkdirTemp(s.dir, "part-"+name+"-")
	if err != nil {
		return "", false, err
	}
	if err := errors.Join(fill(ctx, aside), context.Cause(ctx)); err != nil {
		return "", false, errors.Join(err, os.RemoveAll(aside))
	}
	err = os.Rename(aside, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) { // another build was faster
		err = os.RemoveAll(aside)
	}
	return dir, false, err
}

// prune removes results that were not used lately, and what builds that were killed left more than a day ago. Nothing
// depends on it.
func (s store) prune() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	type result struct {
		name string
		used time.Time
	}
	byStage := make(map[string][]result)
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			continue
		}
		stage, _, _ := cutLast(e.Name(), "-")
		if strings.HasPrefix(e.Name(), "part-") {
			if time.Since(st.ModTime()) > 24*time.Hour {
				_ = os.RemoveAll(filepath.Join(s.dir, e.Name())) // tried again by the next build
			}
			continue
		}
		byStage[stage] = append(byStage[stage], result{e.Name(), st.ModTime()})
	}
	for _, results := range byStage {
		slices.SortFunc(results, func(a, b result) int { return b.used.Compare(a.used) })
		for _, old := range results[min(keptPerStage, len(results)):] {
			_ = os.RemoveAll(filepath.Join(s.dir, old.name)) // tried again by the next build
		}
	}
}

func cutLast(text, sep string) (before, after string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}
