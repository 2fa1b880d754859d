package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
)

// Marker is a file that exists while images are being written, and until they have reached the disk. If it exists at a
// start, the last write was interrupted.
type Marker struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex // guards what follows
	n    int        // running writes
	left bool       // it existed at the start, and the images have not been checked
}

// NewMarker checks whether an earlier life left the marker at path, which must be on the file system of the images.
func NewMarker(path string, log *slog.Logger) *Marker {
	_, err := os.Lstat(path)
	return &Marker{path: path, log: log, left: err == nil}
}

// Begin records that images are written from now on, until end is called.
func (m *Marker) Begin() (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n++; m.n == 1 && !m.left {
		if err := atomicfile.Write(m.path, []byte("container images are being written\n"), 0o600); err != nil {
			m.log.Warn("beginning of writing of images not recorded", "error", err) // the pull reports a full disk
		}
	}
	return sync.OnceFunc(m.finish)
}

func (m *Marker) finish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n--; m.n == 0 && !m.left {
		m.remove()
	}
}

// remove needs mu.
func (m *Marker) remove() {
	f, err := os.Open(m.path)
	if err != nil {
		return // the marker could not be created
	}
	err = unix.Syncfs(int(f.Fd()))
	_ = f.Close() // it was opened only to sync its file system
	if err == nil {
		err = os.Remove(m.path)
	}
	if err != nil {
		m.log.Warn("end of writing of images not recorded", "path", m.path, "error", err)
	}
}

// checked records that the images were checked.
func (m *Marker) checked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = false
	if m.n == 0 {
		m.remove()
	}
}

// Cut reports whether an earlier write was interrupted and the images have not been checked since.
func (m *Marker) Cut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// Needs holds a Need that changes. Before the first Set, the Need is Unsure.
type Needs struct {
	mu  sync.Mutex // guards what follows
	set bool
	n   Need
}

// Set replaces the need.
func (n *Needs) Set(need Need) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set, n.n = true, need
}

// Now returns the current need.
func (n *Needs) Now() Need {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.set {
		return Need{Unsure: true}
	}
	return n.n
}

const (
	// keepFirst is the time of the first look, after the boot.
	keepFirst = 90 * time.Second
	keepEvery = time.Hour
	// fullEvery is the time between two looks whether the disk is nearly full, which takes one system call.
	fullEvery = 5 * time.Minute
)

// Keep checks the images after an interrupted write, and removes images that no app needs, until ctx is done.
func (s *Store) Keep(ctx context.Context, needs *Needs, m *Marker) {
	timer := time.NewTimer(keepFirst)
	defer timer.Stop()
	full := time.NewTicker(fullEvery)
	defer full.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-full.C:
			if free, size, err := s.Space(); err != nil || free >= size/nearlyFull {
				continue
			}
		case <-timer.C:
		}
		timer.Reset(keepEvery)
		if err := s.look(ctx, needs, m); err != nil && ctx.Err() == nil {
			s.Log.Warn("container images not checked", "error", err)
			timer.Reset(keepFirst)
		}
	}
}

func (s *Store) look(ctx context.Context, needs *Needs, m *Marker) error {
	if m.Cut() {
		damaged, err := s.Check(ctx)
		if err != nil {
			return fmt.Errorf("check images: %w", err)
		}
		s.Log.Info("container images checked after an unclean end", "count", damaged)
		m.checked()
	}
	_, err := s.Prune(ctx, needs.Now(), "", false)
	return err
}
