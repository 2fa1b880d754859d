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

// Marker is a file that exists while images are being written and until what was written is on the disk. Whoever finds
// it after a start knows that the last writing was cut.
type Marker struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex // guards what follows
	n    int        // writings under way
	left bool       // it was found, and what was cut has not been checked
}

// NewMarker finds out whether an earlier life left the marker at path, which lies on the file system of the images.
func NewMarker(path string, log *slog.Logger) *Marker {
	_, err := os.Lstat(path)
	return &Marker{path: path, log: log, left: err == nil}
}

// Begin notes that images are written from now on, until end is called.
func (m *Marker) Begin() (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n++; m.n == 1 && !m.left {
		if err := atomicfile.Write(m.path, []byte("container images are being written\n"), 0o600); err != nil {
			m.log.Warn("writing of images not noted", "error", err) // a full disk; the pull will say more
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
		return // it could not be made
	}
	err = unix.Syncfs(int(f.Fd()))
	_ = f.Close() // only its file system was wanted
	if err == nil {
		err = os.Remove(m.path)
	}
	if err != nil {
		m.log.Warn("end of writing of images not noted", "path", m.path, "error", err)
	}
}

// checked notes that what was cut has been looked at.
func (m *Marker) checked() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = false
	if m.n == 0 {
		m.remove()
	}
}

// Cut reports whether an earlier writing was cut and has not been checked.
func (m *Marker) Cut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// Needs is a Need that changes. Nobody is sure of anything before it is set.
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

// Now returns the need of this moment.
func (n *Needs) Now() Need {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.set {
		return Need{Unsure: true}
	}
	return n.n
}

const (
	// keepFirst is when the store is looked after for the first time: not while the device starts.
	keepFirst = 90 * time.Second
	keepEvery = time.Hour
	// fullEvery is how often it is seen whether the disk is nearly full: one system call.
	fullEvery = 5 * time.Minute
)

// Keep checks what a cut may have damaged, and removes what must go by itself, until ctx is done.
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
			s.Log.Warn("container images not looked after", "error", err)
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
